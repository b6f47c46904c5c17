//! Scout's Kubewarden policy: the waPC shell around policy-core.
