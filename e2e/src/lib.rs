//! A real Kubernetes, a faithful policy host, and the scenarios that show what Scout does.
