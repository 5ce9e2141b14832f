"""What benchmarks and evaluations share: a run's folder, its status, its servers, sweeps of runs, W&B."""
