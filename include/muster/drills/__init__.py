"""
Drills: a recovery in a sandbox, with something broken on purpose.

A drill is sandbox → fault → plan → restore (each component) → validate → smoke → conclude → sandbox removed.

* sandbox         the folder of a drill, what is written down there, and how everything of it is removed
* platform        the platform as it is seen from in there: vault, clock, tools and places, with the fault in them
* circumstances   what a workload has that faults can strike, and how its vault is reached
* strikes         what each fault does, who must notice it, and what is done about it; `strikes_restored` has those of restored copies
* worker          a restore in a process of its own, to be killed, or to run on a disk that is too small
* rehearsal       the whole of it, as the command line does it; the drill DAG does the same in tasks
* game_day        the same with people: nobody says which fault it is
"""
