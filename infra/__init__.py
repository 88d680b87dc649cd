"""What it runs on: settings, errors, ports, one folder of adapters per port, topology."""
