//! placeholder header for what follows: quotas, kinds, digests and jobs of uploads.
