//! Scout's companion: reads secrets from a store, delivers them, writes the desired state, triggers rollouts.
