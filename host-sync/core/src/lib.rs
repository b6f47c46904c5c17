//! What host-sync decides: configuration, secret bytes, the store port, the plan and why. Pure.
