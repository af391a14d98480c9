"""`[report]`: contents of the pages in addition to the figures of a run."""

from typing import Annotated

from pydantic import Field

from hustings.experiments.declaration.section import Section, Text


class ReportSection(Section):
    """`[report]`: the map of counties, and the votes that are needed.

    Attributes:
        map: TopoJSON of counties, `.gz` or not; a path from the campaign's folder, or
            one that begins with `data:` or `raw:`. In degrees, or projected already.
        map_object: Its object with the counties; not needed where it has only one.
        map_id: "id", or the property that holds a county's code; leading zeros may be
            missing.
        votes_needed: Votes that the campaign has to gain, for the week's page.
    """

    map: Text | None = None
    map_object: Text | None = None
    map_id: Text = "id"
    votes_needed: Annotated[int, Field(ge=1)] | None = None
