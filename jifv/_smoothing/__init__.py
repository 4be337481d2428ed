"""What `jifv.smoothing` is made of.

A function's jaxpr becomes a flat program (`flatten`), in which the kinks are found (`kinks`); an interpreter evaluates
it as it is, to measure the widths, or with every kink rounded (`interpreter`, by the formulas in `rounded`). `twins` is
how a function declares its own rounded version, `steps` tells hand-written derivatives with jumps from those without.
"""
