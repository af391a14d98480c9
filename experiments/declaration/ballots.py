"""`[ballots]`: how a county's or a state's file of ballots is read."""

from datetime import date

from hustings.experiments.declaration.section import FileGivenLater, Section


class BallotsSection(Section):
    """`[ballots]`: how files of ballots are read, and of which election they are.

    Attributes:
        first_day: First day on which a ballot of this election could go out. Earlier
            ones are of another election, save those that are only requested.
        table: Names of its columns and words; the file is given when it is read.
    """

    first_day: date
    table: FileGivenLater
