"""Valence of reactions (good, bad or neutral) by one declared table.

A kind is the platform's name for a reaction; platforms have several names for one.
Which kinds are good news is a matter of judgement, so a campaign may declare its own;
"haha" and "wow" go both ways and count as neutral.
"""

from collections.abc import Mapping
from types import MappingProxyType

import pandas as pd

from hustings.features.wish import STOP_KINDS

GOOD, BAD, NEUTRAL = "good", "bad", "neutral"
VALENCES = (GOOD, BAD, NEUTRAL)
STOP = "stop"
"""Asks to be left alone: the permission of the channel ends at once."""
REACTION = "reaction"
"""Reactions of every kind together, where a platform gives no more."""

KIND_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "like": "likes liked favorite favorites favourite favourites heart hearts digg "
        "thumbs_up",
        "love": "loves loved",
        "care": "cares hug hugs",
        "wow": "wows",
        "haha": "hahas",
        "sad": "sads sorry sorrys sorries",
        "angry": "angrys angries anger angers",
        "thankful": "thankfuls",
        "pride": "prides",
        "dislike": "dislikes disliked downvote downvotes thumbs_down",
        "comment": "comments reply replies",
        "quote": "quotes quote_tweets",
        "share": "shares shared retweet retweets repost reposts reshare reshares "
        "forward forwards",
        "save": "saves saved bookmark bookmarks favorites_added add_to_favorites "
        "collect",
        "click": "clicks link_click link_clicks url_click url_clicks",
        "follow": "follows new_follows new_followers paid_followers subscribers_gained",
        "unfollow": "unfollows unlike unlikes unlike_page unlike_of_page unliked_page "
        "subscribers_lost fan_removes unsubscribes_from_page lost_followers",
        "hide": "hides hidden hide_post hide_posts hide_all hide_all_posts xbutton "
        "hide_this_post hide_all_of_page not_interested",
        "report_spam": "report_as_spam reported_as_spam spam_report spam_reports spam "
        "report_spams reports_as_spam report reports reported",
        "block": "blocks blocked",
        "mute": "mutes muted",
        "negative_feedback": "negative_feedbacks negative_feedback_users "
        "negative_actions",
        "complaint": "complaints spam_complaint spam_complaints abuse_complaints",
        "unsubscribe": "unsubscribes unsubscribed opt_outs optouts opted_out",
    }
)
"""Kind → other words for it, as columns and metrics of exports are called."""
_PLAIN_KINDS = {
    GOOD: "like love share click save follow thankful pride",
    NEUTRAL: f"wow haha care comment reply quote sad {REACTION}",
    BAD: "angry dislike unfollow hide report_spam block mute negative_feedback "
    "complaint unsubscribe stopall opt-out opt_out optout",
}
VALENCE: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(sorted(STOP_KINDS), BAD),
        **{
            word: worth
            for worth, kinds in _PLAIN_KINDS.items()
            for kind in kinds.split()
            for word in (kind, *KIND_WORDS.get(kind, "").split())
        },
    }
)
"""Kind → good, bad or neutral."""


def valence(kind: pd.Series, declared: Mapping[str, str] | None = None) -> pd.Series:
    """Good, bad or neutral for every reaction.

    Args:
        kind: Kinds as the platform names them; capitals do not matter.
        declared: The campaign's own table, over `VALENCE`.

    Returns:
        One of `VALENCES`; a kind that no table names is neutral.

    Raises:
        ValueError: If a declared valence is none.

    >>> valence(pd.Series(["Love", "anger", "poke"])).tolist()
    ['good', 'bad', 'neutral']
    """
    wrong = sorted(set((declared or {}).values()) - set(VALENCES))
    if wrong:
        raise ValueError(f"expected one of {', '.join(VALENCES)}, got {wrong[0]!r}")
    table = {**VALENCE, **(declared or {})}
    valences: pd.Series = kind.str.lower().map(table).fillna(NEUTRAL)
    return valences
