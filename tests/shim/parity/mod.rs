//! The same requests to the stock shim and to ours.
