"""What network work costs on each loop: processor time a message, rate, and how long a message takes.

A server runs on one core and its load on another, each in a process of its own, so that neither hides the
other's share. The load is a closed loop written in Rust (load/): it keeps the server busy, and reads the
server's processor clock when its window of time opens and closes. In each round the loops take turns, each
with a fresh process; shown are medians over the rounds. Work that has both its ends in one loop, or a child
process at its other end, measures itself.

| module    |                                                               |
|-----------|---------------------------------------------------------------|
| `rows`    | what is measured: one row of the table each                   |
| `servers` | the servers, the same code for every loop                     |
| `inside`  | the work that measures itself                                 |
| `process` | one measurement: cores, processes, what came of it            |
| `load`    | the program in Rust: its build and its commands               |
| `report`  | medians, ratios and the tables                                |
| `cli`     | the command line                                              |
"""
