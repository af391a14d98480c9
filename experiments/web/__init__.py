"""The staff's web app: pages of a campaign's day behind each person's own key.

It mounts the scoring service's routes and adds pages. Every page is one results object,
the one of the command that is about it, rendered by a template; it runs no script.
"""
