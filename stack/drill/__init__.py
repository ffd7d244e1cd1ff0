"""Rehearsing on a running stack that what is bound to happen is survived: ``evergreen drill``.

::

    answers.py     what clients were answered, and by whom they should have been
    verdicts.py    judging one rehearsal: pure
    trickle.py     clients that ask all the time
    scene.py       the running stack: what is asked of it, and what is done to it
    memo.py        what was before, kept in a file until it is so again
    rehearsal.py   what a rehearsal is, and how one is carried out
    switches.py    rehearsals that move the alias: rollback, lost webhook, killed deployer
    losses.py      rehearsals that kill: a worker, Redis, MLflow
    spoiled.py     rehearsals that offer a bad version
    drill.py       all of them, one after another
    back.py        the way back: whatever was changed is put back
    report.py      the table, and what is said to machines
"""
