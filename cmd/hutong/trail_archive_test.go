package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/internal/identity"
)

// archivingParty serves a trail, and archives entries of it as the endpoint does.
type archivingParty struct {
	*stubParty
	mu      sync.Mutex
	entries []audit.Entry
	head    audit.Head
	base    *audit.Base
	roles   []string
	// fail answers a request to archive, before or after it is done.
	fail   http.HandlerFunc
	after  bool
	left   []int64 // of the next answers
	onRead func()  // before a page is read
}

// newArchivingParty has n entries, one a day, the last twelve hours old.
func newArchivingParty(t *testing.T, n int) *archivingParty {
	p := &archivingParty{roles: []string{"admin"}}
	for i := range n {
		at := time.Now().Add(time.Duration(i-n)*24*time.Hour + 12*time.Hour)
		p.add(audit.Submit, audit.Object{Kind: audit.Job, ID: fmt.Sprint(i)}, at)
	}
	p.stubParty = newParty(t, map[string]http.HandlerFunc{
		"GET " + bfia.PathAuditQuery:    p.query,
		"POST " + bfia.PathAuditArchive: p.archive,
		"GET " + bfia.PathWhoAmI: func(w http.ResponseWriter, r *http.Request) {
			data(bfia.WhoAmI{NodeID: "A", Name: "ada", Roles: p.roles, Proof: "token"})(w, r)
		},
	})
	return p
}

func (p *archivingParty) add(act string, object audit.Object, at time.Time) {
	ada := identity.Principal{Kind: identity.KindClient, Name: "<ada>"}
	e := audit.New(ada, act, object, audit.Allowed, at)
	p.head = e.Link(p.head)
	p.entries = append(p.entries, e)
}

func (p *archivingParty) query(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.onRead != nil {
		p.onRead()
	}
	after, _ := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
	limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
	page := []audit.Entry{}
	for _, e := range p.entries {
		if e.Seq > after && len(page) < limit {
			page = append(page, e)
		}
	}
	answer := map[string]any{"entries": page, "head": p.head}
	if p.base != nil {
		answer["base"] = p.base
	}
	data(answer)(w, r)
}

func (p *archivingParty) archive(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fail != nil && !p.after {
		p.fail(w, r)
		return
	}
	var body bfia.ArchiveTrail
	_ = json.NewDecoder(r.Body).Decode(&body)
	p.moveBase(audit.Head{Seq: body.Seq, Hash: body.Hash})
	if p.fail != nil {
		p.fail(w, r)
		return
	}
	left := int64(0)
	if len(p.left) > 0 {
		left, p.left = p.left[0], p.left[1:]
	}
	data(map[string]any{"base": p.base, "left": left})(w, r)
}

func (p *archivingParty) moveBase(to audit.Head) {
	if p.base != nil && p.base.Head == to {
		return
	}
	for i, e := range p.entries {
		if e.Seq == to.Seq && e.Hash == to.Hash {
			p.base = &audit.Base{Head: to, Time: e.Time}
			p.entries = p.entries[i+1:]
			p.add(audit.ArchiveTrail, to.Object(), time.Now())
			return
		}
	}
}

func (p *archivingParty) asks(method, path string) (n int) {
	for _, r := range p.requests() {
		if r.method == method && r.path == path {
			n++
		}
	}
	return n
}

func TestAuditArchive(t *testing.T) {
	p := newArchivingParty(t, 100)
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	old := p.entries
	headAt := func(seq int) string { return audit.Head{Seq: int64(seq), Hash: old[seq-1].Hash}.String() }
	status, whole, _ := p.run(t, "audit", "export")
	require.Equal(t, exitOK, status)

	p.left = []int64{40, 0}
	status, stdout, stderr := p.run(t, "audit", "archive", "--before", "61d", "--out", file("1"))
	require.Equal(t, exitOK, status, stderr)
	require.Equal(t, "archived the entries 1 to 39 in "+file("1")+"; head "+headAt(39)+"\n", stdout)
	require.Equal(t, 2, p.asks("POST", bfia.PathAuditArchive), "until none is left")
	first, err := os.ReadFile(file("1"))
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(whole, string(first)), "the form of an export")
	require.Equal(t, 39, strings.Count(string(first), "\n"))
	status, stdout, stderr = p.run(t, "audit", "archive", "--before", "41d", "--out", file("2"))
	require.Equal(t, exitOK, status, stderr)
	require.Contains(t, stdout, "archived the entries 40 to 59 in ")
	names, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, names, 2, "no temporary file is left")

	// The party begins after them.
	status, stdout, stderr = p.run(t, "audit", "verify", "--head", headAt(59))
	require.Equal(t, exitOK, status, stderr)
	require.Contains(t, stdout, "entries 60 to 102, unaltered and without gaps; head "+p.head.String()+"\n")
	require.Contains(t, stdout, "the entries up to 59 (")
	require.Contains(t, stdout, ") are archived, with the head "+headAt(59)+"\n")
	status, _, stderr = p.run(t, "audit", "verify", "--head", headAt(7))
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, "'hutong audit verify --head "+headAt(7)+" ARCHIVE'")
	status, _, stderr = p.run(t, "audit", "verify", "--head", "59:"+old[0].Hash)
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, "broken at entry 59")
	status, stdout, stderr = p.run(t, "audit", "export", "--out", file("rest"))
	require.Equal(t, exitOK, status, stderr)
	require.Empty(t, stdout)
	require.Contains(t, stderr, "The entries up to 59 (")
	for _, c := range []struct {
		args  []string
		noted bool
	}{
		{[]string{"list", "--limit", "5"}, false}, // there are more in the database
		{[]string{"list"}, true},
		{[]string{"list", "--since", "24h"}, false},
		{[]string{"list", "--since", "90d"}, true},
		{[]string{"export", "--since", "24h"}, false},
	} {
		status, _, stderr = p.run(t, append([]string{"audit"}, c.args...)...)
		require.Equal(t, exitOK, status, stderr)
		require.Equal(t, c.noted, strings.Contains(stderr, "are archived"), "%v: %s", c.args, stderr)
	}

	for _, c := range []struct {
		names  []string
		heads  []string
		status int
		text   string
	}{
		{[]string{"1"}, []string{headAt(7), headAt(39)}, exitOK,
			"39 entries, unaltered and without gaps; head " + headAt(39) + "\n"},
		{[]string{"1", "2", "rest"}, []string{headAt(7), headAt(45), headAt(80)}, exitOK,
			"102 entries, unaltered and without gaps; head " + p.head.String() + "\n"},
		{[]string{"2", "rest"}, nil, exitOK, "those up to 39 are not verified: the first one says that it " +
			"follows on the head " + headAt(39)},
		{[]string{"2", "rest"}, nil, exitOK, "entries 40 to 102, unaltered and without gaps"},
		{[]string{"2"}, []string{headAt(39)}, exitOK, "they follow on the kept head " + headAt(39)},
		{[]string{"2"}, []string{headAt(38)}, exitFailed, "entry 38 of the kept head is not among these"},
		{[]string{"2"}, []string{"39:" + old[0].Hash}, exitFailed, "broken at entry 39"},
		{[]string{"1", "2"}, []string{headAt(60)}, exitFailed, "its end was cut off"},
		{[]string{"1", "rest"}, nil, exitFailed, file("rest") + " does not follow on " + file("1") +
			": it begins with entry 60, and " + file("1") + " ends with entry 39"},
		{[]string{"2", "1"}, nil, exitFailed, file("1") + " does not follow on " + file("2")},
		{[]string{"1", "1"}, nil, exitFailed, "does not follow on"},
	} {
		args := []string{"audit", "verify"}
		for _, h := range c.heads {
			args = append(args, "--head", h)
		}
		for _, name := range c.names {
			args = append(args, file(name))
		}
		status, stdout, stderr := p.run(t, args...)
		require.Equal(t, c.status, status, "%v: %s", args, stderr)
		require.Contains(t, stdout+stderr, c.text, "%v", args)
	}
	second, err := os.ReadFile(file("2"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file("empty"), nil, 0o600))
	status, _, stderr = p.run(t, "audit", "verify", file("1"), file("empty"))
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, file("empty")+" has no entries")
	altered := strings.Replace(string(second), `"<ada>"`, `"<bob>"`, 1)
	require.NotEqual(t, string(second), altered)
	require.NoError(t, os.WriteFile(file("2"), []byte(altered), 0o600))
	status, _, stderr = p.run(t, "audit", "verify", file("1"), file("2"))
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, file("2")+": the audit trail is broken at entry 40")
}

// TestAuditArchiveNothing checks what is refused before the party is asked to remove something.
func TestAuditArchiveNothing(t *testing.T) {
	p := newArchivingParty(t, 100)
	out := filepath.Join(t.TempDir(), "a")
	refused := func(want int, text string, args ...string) {
		t.Helper()
		status, stdout, stderr := p.run(t, append([]string{"audit", "archive"}, args...)...)
		require.Equal(t, want, status, stderr)
		require.Contains(t, stdout+stderr, text)
		require.Zero(t, p.asks("POST", bfia.PathAuditArchive))
	}
	existing := file(t, "kept")
	refused(exitFailed, "file already exists; nothing was done", "--before", "61d", "--out", existing)
	require.Empty(t, p.requests(), "before anything else")
	content, err := os.ReadFile(existing)
	require.NoError(t, err)
	require.Equal(t, "kept", string(content))
	refused(exitUsage, "--out: must be", "--before", "61d")
	refused(exitUsage, "--out: must be", "--before", "61d", "--out", "-")
	refused(exitUsage, "--before: is required", "--out", out)
	refused(exitUsage, "--before: must be at least 30 days ago", "--before", "29d", "--out", out)
	refused(exitUsage, "--before: ", "--before", "soon", "--out", out)
	require.Empty(t, p.requests())

	refused(exitOK, "the party has no entries before ", "--before", "101d", "--out", out)
	p.roles = []string{"auditor", "viewer"}
	refused(exitFailed, "you need the role admin", "--before", "61d", "--out", out)
	p.roles = []string{"admin"}
	p.entries[20].Reason = "altered"
	refused(exitFailed, "broken at entry 21: its content does not fit its hash: it was altered; "+
		"nothing was removed", "--before", "61d", "--out", out)
	names, err := os.ReadDir(filepath.Dir(out))
	require.NoError(t, err)
	require.Empty(t, names, "no file is left")

	refused(exitFailed, "broken at entry 2", "--finish", func() string {
		lines := []audit.Entry{p.entries[0], p.entries[2]}
		var text strings.Builder
		for _, e := range lines {
			require.NoError(t, newTrailEncoder(&text).Encode(e))
		}
		return file(t, text.String())
	}())
	refused(exitFailed, "has no entries", "--finish", file(t, ""))
	status, _, _ := p.run(t, "audit", "archive", "--finish", existing, "--out", out)
	require.Equal(t, exitUsage, status)
}

// TestAuditArchiveThatFails checks what the user learns when the removal fails: nothing was removed, or some
// entries are left, or it is unknown. The file stays.
func TestAuditArchiveThatFails(t *testing.T) {
	drop := func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }
	for name, c := range map[string]struct {
		fail  http.HandlerFunc
		after bool
		gone  bool // the party answers nothing any more
		text  string
	}{
		"refused": {fail: func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusConflict, bfia.CodeConflict, "seq: entry 7 is of yesterday")
		}, text: "seq: entry 7 is of yesterday; nothing was removed from the party"},
		"forbidden": {fail: func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusForbidden, bfia.CodeForbidden, "client ada lacks the role admin")
		}, text: "client ada lacks the role admin; nothing was removed from the party"},
		"no answer, not done": {fail: drop, text: "nothing was removed from the party"},
		"no answer, done":     {fail: drop, after: true, text: "the entries up to 39 are archived, and"},
		"failed in between": {fail: func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, http.StatusServiceUnavailable, bfia.CodeUnavailable, "the database does not answer")
		}, after: true, text: "the database does not answer; the entries up to 39 are archived, and"},
		"party gone": {fail: drop, after: true, gone: true,
			text: "it is unknown whether the party has removed the entries up to 39"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newArchivingParty(t, 100)
			out := filepath.Join(t.TempDir(), "a")
			p.after = c.after
			p.fail = func(w http.ResponseWriter, r *http.Request) {
				if c.gone {
					p.onRead = func() { panic(http.ErrAbortHandler) }
				}
				c.fail(w, r)
			}
			status, stdout, stderr := p.run(t, "audit", "archive", "--before", "61d", "--out", out)
			require.NotEqual(t, exitOK, status)
			require.Empty(t, stdout)
			require.Contains(t, stderr, c.text)
			require.Contains(t, stderr, "hutong audit archive --finish "+out)

			p.mu.Lock() // the handler may still run whose answer was lost
			p.fail, p.onRead = nil, nil
			p.mu.Unlock()
			status, _, stderr = p.run(t, "audit", "verify", out)
			require.Equal(t, exitOK, status, "the file is whole: %s", stderr)
			status, stdout, stderr = p.run(t, "audit", "archive", "--finish", out)
			require.Equal(t, exitOK, status, stderr)
			require.Contains(t, stdout, "archived the entries 1 to 39 in "+out)
			status, _, stderr = p.run(t, "audit", "verify", "--head", p.base.String())
			require.Equal(t, exitOK, status, stderr)
		})
	}
}

// TestAuditReadWhileArchived archives entries between two pages that a command reads.
func TestAuditReadWhileArchived(t *testing.T) {
	for _, command := range []string{"verify", "export"} {
		p := newArchivingParty(t, trailPageSize+500)
		at := p.entries[trailPageSize+200]
		reads := 0
		p.onRead = func() {
			if reads++; reads == 2 {
				p.moveBase(audit.Head{Seq: at.Seq, Hash: at.Hash})
			}
		}
		status, _, stderr := p.run(t, "audit", command)
		require.Equal(t, exitFailed, status)
		require.Contains(t, stderr, fmt.Sprintf("the entries up to %d were archived while", at.Seq))
		status, _, stderr = p.run(t, "audit", command)
		require.Equal(t, exitOK, status, stderr)
	}
}

// TestAuditVerifyUnrecordedBase finds a party that removed entries without recording it.
func TestAuditVerifyUnrecordedBase(t *testing.T) {
	p := newArchivingParty(t, 10)
	p.base = &audit.Base{Head: audit.Head{Seq: 4, Hash: p.entries[3].Hash}, Time: p.entries[3].Time}
	p.entries = p.entries[4:]
	status, _, stderr := p.run(t, "audit", "verify")
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, "broken at entry 4")
	require.Contains(t, stderr, "entries were removed without it")
}
