"""Monitor of reactions: counts them as they arrive, rates messages, raises alarms.

`stream` counts the reactions, `e_values` tests whether a share has risen, `received`
estimates how well a message is received, `disclosure` limits what may be shown and
`snapshot` is the view that staff see. Only `http` imports a web framework.
"""
