package bfia

// ArchiveTrail is the body of a request to [PathAuditArchive]: the number and the hash of the last entry of
// the audit trail that the caller has archived.
type ArchiveTrail struct {
	Seq  int64  `json:"seq"`
	Hash string `json:"hash"`
}
