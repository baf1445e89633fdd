"""Many tasks at once: in processes of this machine, on a cluster, or by any other executor of concurrent.futures."""
