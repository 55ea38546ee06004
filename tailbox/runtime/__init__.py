"""What shells share: network, clock, tasks, settings. Knows no protocol of ours."""
