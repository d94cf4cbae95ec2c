"""Random asyncio programs, run on asyncio's loop and on pyloop: what happens must be the same, line for line.

`make fuzz` runs them, `python -m tests.fuzz --help` says what else there is. A program that differs, crashes
or hangs is made smaller as long as it still does, and printed with its seed.

==============  ==============================================================================================
`grammar`       what a program is made of, and one for each seed
`world`         what a program acts on, and what happened
`acts`          the instructions that do not wait: callbacks may have them, too
`awaits`        those that wait: for coroutines alone
`play`          runs one program on one side
`sides`         asyncio's loop, tasks and futures; pyloop's; and each with the other's
`shrink`        a smaller program that still does it
`worker`        runs programs by the thousand in a process of its own, which may crash
`__main__`      the command line
==============  ==============================================================================================

A program must be the same on each run, so nothing in it depends on the clock: timers are due at once, each
at a time of its own, or never. A few programs are *timed*: they sleep for real, each sleeper until a time of
its own, well apart from the others'; one that differs is run again before it counts.
"""
