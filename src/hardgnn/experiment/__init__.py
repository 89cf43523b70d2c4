"""Many runs as one study: plans, the named studies, sweeps, searches, the processes they run in, their results."""
