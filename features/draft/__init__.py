"""Files of a new campaign → a first draft of its campaign.toml, to be corrected.

`heads` reads the first rows, `layouts` knows the published records, `voters` and
`other_tables` place the columns, `drafted` puts the files together and `toml_text`
writes it down. `special` is also the guardrail's: which columns may tell of a special
category of personal data.
"""

from hustings.features.draft.drafted import (
    CampaignDraft,
    draft_campaign,
    files_of,
)
from hustings.features.draft.layouts import Layout, layouts
from hustings.features.draft.special import (
    looks_special,
    plain_name,
    suspicious_columns,
)
from hustings.features.draft.toml_text import campaign_toml, open_questions

__all__ = [
    "CampaignDraft",
    "Layout",
    "campaign_toml",
    "draft_campaign",
    "files_of",
    "layouts",
    "looks_special",
    "open_questions",
    "plain_name",
    "suspicious_columns",
]
