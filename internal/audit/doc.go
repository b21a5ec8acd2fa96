// Package audit is the audit trail of a party, without its storage: who did what to which object, and with
// what outcome. The entries form a chain of hashes, so that an entry that was altered, removed, inserted or
// moved is found by [Verifier].
//
// The chain finds changes between two heads that an auditor trusts. Someone who can rewrite the whole
// database can also compute a new chain: keep heads elsewhere ([Head], `hutong audit verify --head`). The
// archives of evidence that a party gives to others carry its head.
//
// The oldest entries may be archived: written to a file, and removed from the party. The trail then starts
// after its [Base], the head of what was removed. The entry [ArchiveTrail] of the rest names the base.
package audit
