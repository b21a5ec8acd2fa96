package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"hutong/internal/identity"
)

// Outcome says how an act ended.
type Outcome string

// The outcomes.
const (
	// Allowed means that the caller was allowed to act, and that the act was begun. An act that fails later
	// has a second entry, Failed.
	Allowed Outcome = "allowed"
	// Refused means that the caller may not do this; nothing was done.
	Refused Outcome = "refused"
	// Failed means that the act failed for another reason.
	Failed Outcome = "failed"
)

// Outcomes returns all outcomes.
func Outcomes() []Outcome { return []Outcome{Allowed, Refused, Failed} }

// ObjectKind is the kind of an object.
type ObjectKind string

// The kinds of objects.
const (
	None     ObjectKind = ""
	Job      ObjectKind = "job"      // by job id
	Dataset  ObjectKind = "dataset"  // namespace#name
	Model    ObjectKind = "model"    // job:task.output
	Provider ObjectKind = "provider" // name:version@device, or the filter that selects several
	Runner   ObjectKind = "runner"   // by runner id
	Partner  ObjectKind = "partner"  // by node id
	Token    ObjectKind = "token"    // by token id
	Grant    ObjectKind = "grant"    // by grant id
	Periodic ObjectKind = "periodic" // by name
	Rule     ObjectKind = "rule"     // an approval rule, by rule id
	Session  ObjectKind = "session"  // of the transport
	Trail    ObjectKind = "trail"    // the audit trail
	Project  ObjectKind = "project"  // by name
	Receiver ObjectKind = "receiver" // of notifications, by its name
)

// ObjectKinds returns all kinds of objects.
func ObjectKinds() []ObjectKind {
	return []ObjectKind{Job, Dataset, Model, Provider, Runner, Partner, Token, Grant, Periodic, Rule,
		Project, Session, Trail, Receiver}
}

// Object is what an act was done to.
type Object struct {
	Kind ObjectKind `json:"kind,omitempty"`
	ID   string     `json:"id,omitempty"`
}

// String returns "job 42".
func (o Object) String() string { return strings.TrimSpace(string(o.Kind) + " " + o.ID) }

// Run is the run of a container that was the caller.
type Run struct {
	JobID  string `json:"job_id,omitempty"`
	TaskID string `json:"task_id,omitempty"`
	Role   string `json:"role,omitempty"`
}

// Entry is one entry of the audit trail. It holds no data, parameters or secrets: the request is in it by its
// digest only.
type Entry struct {
	// Seq numbers the entries of a party from 1, without gaps.
	Seq int64 `json:"seq"`
	// Time is in UTC, in microseconds.
	Time time.Time `json:"time"`
	// Kind, Node, Name, Run, Proof, Credential and Address are those of the caller's [identity.Principal].
	Kind       identity.Kind  `json:"kind"`
	Node       string         `json:"node,omitempty"`
	Name       string         `json:"name,omitempty"`
	Run        Run            `json:"run,omitzero"`
	Proof      identity.Proof `json:"proof,omitempty"`
	Credential string         `json:"credential,omitempty"`
	Address    string         `json:"address,omitempty"`
	// Act is what was done, such as [Submit], or method and path of a request that is none of them.
	Act     string  `json:"act"`
	Object  Object  `json:"object,omitzero"`
	Outcome Outcome `json:"outcome"`
	Reason  string  `json:"reason,omitempty"`
	// Count is 1, or the number of refusals in a summary.
	Count int64 `json:"count"`
	// Digest is the SHA-256 of the request's body, or of its method, path and query if it has no body, in
	// hex.
	Digest string `json:"digest,omitempty"`
	// Prev is the hash of the entry before, or [Genesis]. Hash is that of this one.
	Prev string `json:"prev"`
	Hash string `json:"hash"`
}

// Genesis is the hash before the first entry.
const Genesis = "0000000000000000000000000000000000000000000000000000000000000000"

// version is the first string of the encoding. It changes with the list of fields.
const version = "hutong-audit-1"

// maxText bounds each text of an entry, in bytes.
const maxText = 512

// New returns an entry about an act of a caller, at a time. It is not yet part of a chain.
func New(p identity.Principal, act string, object Object, outcome Outcome, at time.Time) Entry {
	run := Run{JobID: p.Run.JobID, TaskID: p.Run.TaskID, Role: p.Run.Role}
	return Entry{Time: at, Kind: p.Kind, Node: p.Node, Name: p.Name, Run: run, Proof: p.Proof,
		Credential: p.Credential, Address: p.Address, Act: act, Object: object, Outcome: outcome, Count: 1}
}

// Clean shortens the texts of an entry, and replaces what is not UTF-8 text, since callers choose some of
// them. It rounds the time to what every database stores.
func (e *Entry) Clean() {
	e.Time = e.Time.UTC().Truncate(time.Microsecond)
	for _, text := range []*string{&e.Node, &e.Name, &e.Run.JobID, &e.Run.TaskID, &e.Run.Role, &e.Credential,
		&e.Address, &e.Act, &e.Object.ID, &e.Reason} {
		*text = clean(*text)
	}
	e.Count = max(e.Count, 1)
}

func clean(text string) string {
	if len(text) > maxText {
		text = text[:maxText]
	}
	text = strings.ToValidUTF8(text, string(utf8.RuneError))
	return strings.ReplaceAll(text, "\x00", string(utf8.RuneError))
}

// Principal returns who acted, such as "client alice" or "partner JG01".
func (e *Entry) Principal() string { return e.principal().String() }

func (e *Entry) principal() identity.Principal {
	run := identity.Run{JobID: e.Run.JobID, TaskID: e.Run.TaskID, Role: e.Run.Role}
	return identity.Principal{Kind: e.Kind, Node: e.Node, Name: e.Name, Run: run, Proof: e.Proof,
		Credential: e.Credential, Address: e.Address}
}

// Encode returns the canonical encoding of an entry, of which [Entry.Sum] is the SHA-256: its fields in a
// fixed order, each as a netstring (the length in bytes, a colon, the text, a comma). Numbers are decimal,
// the time is in microseconds since 1970. The hash of the entry is not part of it, that of the entry before
// is.
func (e *Entry) Encode() []byte {
	var b []byte
	for _, field := range []string{
		version,
		e.Prev,
		strconv.FormatInt(e.Seq, 10),
		strconv.FormatInt(e.Time.UnixMicro(), 10),
		string(e.Kind), e.Node, e.Name,
		e.Run.JobID, e.Run.TaskID, e.Run.Role,
		string(e.Proof), e.Credential, e.Address,
		e.Act, string(e.Object.Kind), e.Object.ID,
		string(e.Outcome), e.Reason,
		strconv.FormatInt(e.Count, 10),
		e.Digest,
	} {
		b = strconv.AppendInt(b, int64(len(field)), 10)
		b = append(b, ':')
		b = append(b, field...)
		b = append(b, ',')
	}
	return b
}

// Sum returns the hash of an entry's fields, in hex.
func (e *Entry) Sum() string {
	sum := sha256.Sum256(e.Encode())
	return hex.EncodeToString(sum[:])
}

// Link makes e the entry after a head, and returns the new head.
func (e *Entry) Link(after Head) Head {
	e.Clean()
	e.Seq, e.Prev = after.Seq+1, after.hash()
	e.Hash = e.Sum()
	return Head{Seq: e.Seq, Hash: e.Hash}
}

// Head is the end of a chain: the number and the hash of its last entry. The zero value is the head of an
// empty chain.
type Head struct {
	Seq  int64  `json:"seq"`
	Hash string `json:"hash"`
}

func (h Head) hash() string {
	if h.Seq == 0 {
		return Genesis
	}
	return h.Hash
}

// String returns the form that [ParseHead] reads, such as "17:9f86d0…".
func (h Head) String() string { return strconv.FormatInt(h.Seq, 10) + ":" + h.hash() }

// ParseHead reads a head as [Head.String] writes it.
func ParseHead(text string) (Head, error) {
	seq, hash, _ := strings.Cut(strings.TrimSpace(text), ":")
	n, err := strconv.ParseInt(seq, 10, 64)
	raw, errHash := hex.DecodeString(hash)
	if err != nil || errHash != nil || n < 0 || len(raw) != sha256.Size {
		return Head{}, fmt.Errorf("%q is not the head of an audit trail: it must be a number, a colon "+
			"and the 64 hexadecimal digits of a hash, as 'hutong audit verify' prints it", text)
	}
	return Head{Seq: n, Hash: strings.ToLower(hash)}, nil
}
