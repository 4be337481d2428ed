"""What `jifv.smoothing` and `jifv.redirection` are made of.

A function's jaxpr becomes a flat program (`flatten`; `knowledge` is what can be said of its values), in which the kinks
are found (`kinks`). An interpreter evaluates it as it is, to measure the widths (`measuring`), with every kink rounded
(`rounding`, by the formulas in `rounded`), or with ReLUs that redirect the gradient (`redirecting`). `twins` is how a
function declares its own rounded version; `steps` tells hand-written derivatives that jump from those that do not.
"""
