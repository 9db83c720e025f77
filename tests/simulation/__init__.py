"""Many nodes in one process, in virtual time, with faults drawn from a seed."""
