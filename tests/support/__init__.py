"""What tests stand on: other processes, the seam to the system, disks that fail, families, and the probe."""
