"""Search of hyperparameters: spaces, trials, leaderboard. Imports judging, runs, processes."""
