"""The invariants of the design, and where each is tested.

1. Splitting a batch differently, accumulating, splitting on out-of-memory, or running on several ranks gives the same
   loss and gradient: `test_normalisation.py`, `test_out_of_memory.py`, `test_sharding.py`, and for padding and order
   `tests/losses/test_common.py`; two processes from end to end in `tests/end_to_end/test_many_processes.py`.
2. Interrupted and resumed at any point equals uninterrupted, to the bit: `tests/end_to_end/test_resume.py`.
3. Each search strategy finds the known critical step and never exceeds its budget: `tests/critical/test_search.py`,
   `tests/rollouts/test_loop.py`.
4. Every loss agrees with the reference implementations in value and gradient: `tests/losses/test_references.py`.
5. The engine's log-probs and the trainer's agree after every sync: `tests/engines/test_agreement.py`.
6. No grader can hang, kill or slow a run beyond its deadline, and what cannot be graded is `None`:
   `tests/rewards/test_maths.py`, `tests/rewards/test_answers.py`.
7. Tokens are counted per purpose and add up to what the engine reports: `tests/rollouts/test_loop.py`,
   `tests/end_to_end/test_fit.py`.
"""
