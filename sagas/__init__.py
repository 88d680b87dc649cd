"""What is decided: pure decide functions, one file per saga, and the engine that runs them."""
