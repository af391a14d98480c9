"""The stages of a run, from ingest to report, and what they have in common.

A stage is a function of a `Run`: it reads the files of the stages before it, writes its
own and can be repeated by itself. `hustings.experiments.run` runs them.
"""
