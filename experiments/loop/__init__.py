"""The daily loop: what came in → lifts → plan → random draws → assignments, each day.

`run_day` makes one day of a campaign. What is believed comes from a learner: the
registered champion, lifts learned from the campaign's own record, or, before anything
is known, a first randomised wave. The state before a day is read from the record.
"""
