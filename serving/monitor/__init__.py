"""Reactions as they arrive → how messages go down, and alarms. No framework.

`evidence` says whether a share has risen, `received` how well a message goes down;
`stream` counts the reactions; `told` is what anybody may see of it.
"""
