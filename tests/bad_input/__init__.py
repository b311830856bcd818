"""Wrong input, by function and by file: told at once, in words that name what is wrong; nothing is touched.

`test_mistakes` has the mistakes that are made with workflows. Here each row of a table is a call that fails:
with what, and what the message says. What can be seen from a type, a shape or attributes is told when the
function is called, also for lazy arrays; only what voxels hold waits until they are computed.
"""
