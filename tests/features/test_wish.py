"""No wish to be left alone is missed, in whatever words it comes."""

import pytest

from hustings.features.reaction import BAD, GOOD, NEUTRAL, VALENCE
from hustings.features.tables import CHANNELS
from hustings.features.wish import wish_of

WISHES = (
    "nobody asked for this, quit",
    "Delete this",
    "STOP",
    "stop.",
    "Please stop",
    "please stop texting me",
    "Remove me from your list",
    "NO MAS",
    "ARRET",
    "ARRÊT",
    "Arrêtez svp",
    "STOP\nSent from my phone",
    "Stop, thanks",
    "S T O P",
    "s.t.o.p",
    "ST0P",
    "STOPPP!!!",
    "Stopp",
    "take me off your list",
    "Take me off",
    "do not contact",
    "Don't contact me again",
    "do not text this number",
    "Don\u2019t text me",
    "opt out",
    "Opt-out please",
    "I would like to opt out",
    "how do I opt out of these",
    "cancel",
    "end",
    "quit",
    "revoke",
    "unsubscribe",
    "Unsubscribe me please",
    "Unsuscribe",
    "unsubcribe",
    "alto",
    "ALTO POR FAVOR",
    "PARAR",
    "baja",
    "dar de baja",
    "quiero darme de baja",
    "no me mande más mensajes",
    "ya no quiero recibir mensajes",
    "déjenme en paz",
    "quítenme de su lista",
    "borren mi numero",
    "ne m'écrivez plus",
    "ne me contactez plus",
    "désabonner",
    "plus de messages svp",
    "Retirez-moi de la liste",
    "pare de me mandar mensagens",
    "não me envie mais mensagens",
    "me tire da lista",
    "keine Nachrichten mehr",
    "Abmelden",
    "hören Sie auf",
    "lassen Sie mich in Ruhe",
    "停止",
    "退订",
    "Стоп",
    "leave me alone",
    "lose my number",
    "I revoke my consent",
    "I withdraw my permission to be contacted",
    "no more texts",
    "No more please",
    "stop all",
    "STOPALL",
    "stop sending me these messages",
    "quit texting me",
    "I don't want these texts",
    "I do not wish to receive messages",
    "not interested in receiving texts",
    "delete my number",
    "delete me",
    "get me off this list",
    "please take my number off your list",
    "cease and desist",
    "I'm on the do not call list",
    "Never text me again",
    "please don't call here anymore",
    "stop - John Smith",
    "STOP. Who is this?",
    "Hi, please stop. Thanks",
    "OK stop now",
    "End these messages",
    "stop it please",
    "off your list please",
    "para",
    "pare por favor",
    "basta ya",
    "🛑",
    "non mi scrivete più",
    "cancellami",
    "pa voye mesaj ankò",
    "huwag na mag text",
    "STOP / ARRET",
    "please remove",
    "removed please",
    "remove my name",
    '"STOP"',
    "Stop!!!! I mean it",
    "stop stop stop",
    "Quit.",
    "Exit",
    "desuscribir",
    "Hör auf",
    "dừng",
    "stop texting",
    "Stop messaging me",
    "Stop contacting me",
    "do not send any more",
    "don't send me anything",
    "I want off this list",
    "unsubscribe from all",
    "pls stop",
    "plz stop txting",
    "stop w the texts",
    "stop emailing me",
    "no texts please",
    "No more",
    "dnc",
    "do not call",
    "Stop",
    "STOP STOP STOP",
    "Please unsubscribe",
    "Kindly remove my number",
    "do not call me",
    "Do Not Call",
    "Please remove me from this list",
    "Stop contacting me or my wife",
    "I said stop",
    "no more messages please",
    "Stop all messages",
    "ARRET SVP",
    "arrêtez de m'envoyer des textos",
    "ne m'appelez plus",
    "Basta, no me escriban",
    "no me envíe más textos",
    "Elimíneme de la lista",
    "Por favor quítame de su lista",
    "não quero receber mensagens",
    "Descadastrar",
    "nie wieder anrufen",
    "revoke consent",
    "I no longer wish to receive texts",
    "opted out",
    "Remove",
    "STOP to end",
    "Reply: STOP",
    "stop.\n\n-- \nJ. Elm\n55 Oak St",
    "Dear campaign,\nplease take me off your mailing list.\nKind regards",
    "STOP\n\n> Vote on Tuesday. Reply HELP for help",
)
"""Invented replies that can mean nothing else."""
MAY_BE = (
    "stop Trump",
    "We must stop the war",
    "Please don't stop",
    "The end of taxes!",
    "I will vote at the end of the week",
    "not interested",
    "No thanks",
    "wrong number",
    "who gave you my number? lawyer",
    "This is spam",
    "fuck off",
    "go away",
    "I never signed up for this",
    "sotp",
    "she passed away",
    "enough",
    "stop by my house",
    "Cancel culture is bad",
    "he quit his job",
    "I asked for this to be stopped",
    "no more taxes",
    "harassment",
    "reported as spam",
    "How did you get this number",
    "You have the wrong person",
    "If you don't stop I call the police",
    "stop and frisk",
    "non merci",
    "no gracias",
    "no me interesa",
    "I am sick of these",
    "get lost",
    "✋",
    "stop the steal",
    "removed from office",
    "stp",
    "shop",
    "I would like you to stop",
    "Make it stop",
    "stop lying to people",
    "Please don't quit",
    "We need to end corruption",
    "cancel the debate?",
    "I do not consent",
    "who is suing whom",
    "Basta de impuestos",
    "alto a la corrupción",
    "je veux plus",
    "falsche Nummer",
    "You must end this war now",
    "I never gave you permission",
    "blocked",
    "Scam",
    "I don't want him to win",
    "leave the country alone",
)
"""Invented replies that a person has to read."""
NONE = (
    "Yes",
    "I'll vote for her",
    "Who is this?",
    "Count me in",
    "Thanks!",
    "What time do polls open?",
    "Voto para Maria",
    "Sí, claro",
    "Weekend works",
    "I support it",
    "Call me tomorrow",
    "Where do I vote",
    "lol",
    "👍",
    "Great weather",
    "Can you text me the address",
    "Please send me a yard sign",
    "I agree",
    "Liked “Hi, reply STOP to opt out”",
    "No",
    "nonstop fun",
    "I already voted",
    "Merci beaucoup",
    "Obrigado, vou votar",
    "Danke, ich wähle sie",
    "Parade on Sunday?",
    "friend",
    "Recommend",
    "Comparto su idea",
    "I live at 5 Main",
    "maybe",
    "I need a ride to the polls",
    "he is the best",
    "Love the shopping center plan",
    "The topic is schools",
    "Send me more info",
    "Bajo impuestos",
    "Altogether good",
    "Arrested development",
    "Quite right",
    "quiet street please",
    "Endorse",
    "legend",
    "Yes I will",
    "Happy to help",
    "Where is my polling place?",
    "My wife too",
    "Loved “Vote on Tuesday. Text STOP to opt out”",
    "Thank you for your work",
    "Sounds good",
    "Great, see you at 5",
    "Gracias, votaré",
    "On va voter",
    "Ich bin dabei",
    "I'm at work, talk later",
    "She has my vote",
    "who are you voting for?",
)
"""Invented replies that nobody takes for a wish."""


def read(text: str) -> str:
    wish = wish_of("reply", text, is_known=True)
    return "none" if wish is None else "wish" if wish.certain else "may be"


def test_the_corpus_is_large_enough():
    assert len({*WISHES, *MAY_BE, *NONE}) >= 200


def test_no_wish_is_missed_and_none_that_is_certain_waits_for_a_reader():
    assert {text: read(text) for text in WISHES} == dict.fromkeys(WISHES, "wish")


def test_what_may_be_a_wish_is_put_before_a_person():
    assert {text: read(text) for text in MAY_BE} == dict.fromkeys(MAY_BE, "may be")


def test_supporters_are_not_stopped():
    assert {text: read(text) for text in NONE} == dict.fromkeys(NONE, "none")


@pytest.mark.parametrize(
    "dress", ["{}!!!", "  {}  ", "{}\n-- \nJ. Elm", "Hi. {}. Thanks"]
)
def test_politeness_signs_and_signatures_change_nothing(dress):
    words = (
        "stop",
        "QUIT",
        "unsubscribe",
        "cancel",
        "revoke",
        "opt out",
        "parar",
        "arrêt",
    )
    assert {read(dress.format(word)) for word in words} == {"wish"}


@pytest.mark.parametrize(
    ("kind", "certain"),
    [
        *((kind, True) for kind in (
            "STOP", "opted-out", "Opt Out", "opt_out", "stop all", "Do Not Call",
            "DNC", "unsubscribed", "group_unsubscribe", "spamreport", "Complaint",
            "complained", "SpamComplaint", "abuse", "blocked", "21610",
            "Do Not Contact", "revoked",
            "messaging_optouts", "Removed", "do not text",
        )),
        *((kind, False) for kind in (
            "refused", "hostile", "wrong number", "not interested", "opt-out-maybe",
            "unfollow", "hide_post", "SubscriptionChange", "request_stop_calls",
            "Declined", "abgemeldet",
        )),
    ],
)  # fmt: skip
def test_platforms_names_for_a_wish(kind, certain):
    wish = wish_of(kind, None, is_known=False)
    assert wish is not None
    assert wish.certain is certain


@pytest.mark.parametrize(
    "kind",
    ["like", "start", "unstop", "opt-in", "delivered", "inbound", "poke", "love"],
)
def test_kinds_that_are_no_wish(kind):
    assert wish_of(kind, None, is_known=False) is None


def test_a_kind_that_nobody_knows_is_read_by_a_person_where_it_has_a_text():
    assert wish_of("poke", "what?", is_known=False) is not None
    assert wish_of("inbound", "what?", is_known=False) is None


def test_a_wish_ends_the_channels_that_it_names():
    assert wish_of("reply", "stop calling me", is_known=True).channels == ("phone",)
    assert wish_of("reply", "Stop emailing me", is_known=True).channels == ("email",)
    for every in ("do not contact me", "leave me alone", "Do not call"):
        assert wish_of("reply", every, is_known=True).channels == CHANNELS
    assert wish_of("STOP", None, is_known=True).channels == ()


def test_bad_news_is_bad_under_each_of_its_names():
    for kind in ("anger", "angry", "angrys", "dislikes", "hide_post", "report_spam",
                 "unlike_page", "blocked", "spam_reports", "opted_out"):  # fmt: skip
        assert VALENCE[kind] == BAD
    assert VALENCE["sorry"] == VALENCE["sad"] == VALENCE["care"] == NEUTRAL
    assert VALENCE["favorites"] == GOOD
