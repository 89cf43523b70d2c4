"""Many runs: plans, sweeps, searches, studies, peers."""
