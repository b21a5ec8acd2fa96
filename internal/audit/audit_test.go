package audit

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/internal/identity"
)

// chain returns n linked entries.
func chain(n int) []Entry {
	var head Head
	list := make([]Entry, n)
	for i := range list {
		e := New(identity.Principal{Kind: identity.KindClient, Name: "alice", Proof: identity.ByToken,
			Credential: "t1", Address: "192.0.2.1"}, Submit, Object{Job, fmt.Sprint(i)}, Allowed,
			time.Unix(1800000000, int64(i)*1000))
		head = e.Link(head)
		list[i] = e
	}
	return list
}

func verify(list []Entry, pins ...Head) error {
	var v Verifier
	v.Pin(pins...)
	for _, e := range list {
		if err := v.Add(e); err != nil {
			return err
		}
	}
	return v.End()
}

// TestEncode fixes the encoding: a change of it would make all trails that exist invalid.
func TestEncode(t *testing.T) {
	e := New(identity.Principal{Kind: identity.KindPartner, Node: "B", Proof: identity.ByCertificate,
		Credential: "ab", Address: "192.0.2.7"}, PartnerStart, Object{Job, "42"}, Allowed,
		time.Date(2026, 11, 29, 3, 0, 0, 123456789, time.UTC))
	e.Digest = strings.Repeat("0", 64)
	head := e.Link(Head{})
	assert.Equal(t, "14:hutong-audit-1,64:"+Genesis+",1:1,16:1795921200123456,7:partner,1:B,0:,0:,0:,0:,"+
		"11:certificate,2:ab,9:192.0.2.7,13:partner.start,3:job,2:42,7:allowed,0:,1:1,64:"+
		strings.Repeat("0", 64)+",", string(e.Encode()))
	assert.Equal(t, e.Sum(), head.Hash)
	assert.Len(t, head.Hash, 64)
}

func TestVerify(t *testing.T) {
	list := chain(6)
	end := Head{Seq: 6, Hash: list[5].Hash}
	require.NoError(t, verify(list, end))
	require.NoError(t, verify(nil))

	without := func(i int) []Entry { return slices.Delete(slices.Clone(list), i, i+1) }
	altered := func(i int, change func(*Entry)) []Entry {
		l := slices.Clone(list)
		change(&l[i])
		return l
	}
	// A forger who knows the algorithm computes the hash again, and those of all entries that follow.
	forged := altered(2, func(e *Entry) { e.Name = "bob"; e.Hash = e.Sum() })
	rewritten := slices.Clone(forged)
	head := Head{Seq: 2, Hash: list[1].Hash}
	for i := 2; i < len(rewritten); i++ {
		head = rewritten[i].Link(head)
	}
	inserted := slices.Insert(slices.Clone(list), 3, list[3])
	swapped := slices.Clone(list)
	swapped[2], swapped[3] = swapped[3], swapped[2]

	for name, c := range map[string]struct {
		list   []Entry
		pins   []Head
		seq    int64
		reason string
	}{
		"altered":         {altered(2, func(e *Entry) { e.Name = "bob" }), nil, 3, "altered"},
		"altered time":    {altered(2, func(e *Entry) { e.Time = e.Time.Add(1000) }), nil, 3, "altered"},
		"altered outcome": {altered(5, func(e *Entry) { e.Outcome = Refused }), nil, 6, "altered"},
		"moved text": {altered(2, func(e *Entry) {
			e.Name, e.Node = "lice", "a"
		}), nil, 3, "altered"},
		"altered and hashed": {forged, nil, 4, "another entry"},
		"missing":            {without(2), nil, 3, "removed"},
		"first missing":      {without(0), nil, 1, "removed"},
		"inserted":           {inserted, nil, 5, "inserted"},
		"moved":              {swapped, nil, 3, "moved"},
		"end cut off":        {list[:4], []Head{end}, 5, "cut off"},
		"all removed":        {nil, []Head{end}, 1, "cut off"},
		"rewritten":          {rewritten, []Head{end}, 6, "rewritten"},
		// The party pins its own end too.
		"rewritten to the end": {rewritten, []Head{end, head}, 6, "rewritten"},
		"its end first":        {rewritten, []Head{head, end}, 6, "rewritten"},
	} {
		t.Run(name, func(t *testing.T) {
			err := verify(c.list, c.pins...)
			var broken *Broken
			require.ErrorAs(t, err, &broken)
			assert.Equal(t, c.seq, broken.Seq)
			assert.Contains(t, broken.Reason, c.reason)
		})
	}
	require.NoError(t, verify(rewritten), "only a pinned head finds a trail that was rewritten to its end")
}

func TestVerifyFromHead(t *testing.T) {
	list := chain(5)
	var v Verifier
	v.StartAt(Head{Seq: 2, Hash: list[1].Hash})
	for _, e := range list[2:] {
		require.NoError(t, v.Add(e))
	}
	assert.Equal(t, Head{Seq: 5, Hash: list[4].Hash}, v.Head())

	v = Verifier{}
	v.StartAt(Head{Seq: 2, Hash: strings.Repeat("1", 64)})
	require.ErrorContains(t, v.Add(list[2]), "replaced")
}

// archivedChain returns entries 4 to 8 of a trail of which those up to 3 were archived with entry 7, and the
// base.
func archivedChain() ([]Entry, Base) {
	list := chain(6)
	base := Base{Head: Head{Seq: 3, Hash: list[2].Hash}, Time: list[2].Time}
	record := New(identity.Principal{Kind: identity.KindClient, Name: "alice"}, ArchiveTrail, base.Object(),
		Allowed, time.Unix(1800000000, 0))
	head := record.Link(Head{Seq: 6, Hash: list[5].Hash})
	last := New(identity.Principal{}, Stop, Object{}, Allowed, time.Unix(1800000000, 0))
	last.Link(head)
	return append(list, record, last)[3:], base
}

func verifyFrom(base Base, list []Entry, pins ...Head) error {
	var v Verifier
	v.Pin(pins...)
	v.StartAtBase(base)
	for _, e := range list {
		if err := v.Add(e); err != nil {
			return err
		}
	}
	return v.End()
}

func TestVerifyFromBase(t *testing.T) {
	list, base := archivedChain()
	require.NoError(t, verifyFrom(base, list))
	require.NoError(t, verifyFrom(base, list, base.Head, Head{Seq: 8, Hash: list[4].Hash}))
	require.NoError(t, verifyFrom(Base{}, chain(2)), "nothing is archived")

	var broken *Broken
	require.ErrorAs(t, verifyFrom(base, list, Head{Seq: 3, Hash: Genesis}), &broken)
	assert.EqualValues(t, 3, broken.Seq)
	assert.Contains(t, broken.Reason, "rewritten")
	for i := range 3 {
		moved := Base{Head: Head{Seq: list[i].Seq, Hash: list[i].Hash}}
		require.ErrorAs(t, verifyFrom(moved, list[i+1:]), &broken, "entries were removed without a record")
		assert.Equal(t, moved.Seq, broken.Seq)
		assert.Contains(t, broken.Reason, "no entry audit.archive of the rest names "+moved.Head.String())
	}
	refused := slices.Clone(list)
	refused[3].Outcome = Refused
	head := refused[3].Link(Head{Seq: 6, Hash: refused[2].Hash})
	refused[4].Link(head)
	require.ErrorContains(t, verifyFrom(base, refused), "no entry audit.archive", "a refusal is no record")

	var before *BeforeStart
	kept := Head{Seq: 2, Hash: Genesis}
	require.ErrorAs(t, verifyFrom(base, list, kept), &before)
	assert.Equal(t, BeforeStart{Pin: kept, Start: base.Head}, *before)
	require.ErrorContains(t, before, "hutong audit verify --head "+kept.String()+" ARCHIVE")

	record := list[3]
	require.NoError(t, CheckRecord(base.Head, &record))
	record.Reason = "altered"
	require.ErrorAs(t, CheckRecord(base.Head, &record), &broken)
	require.ErrorAs(t, CheckRecord(base.Head, nil), &broken)
}

// TestExportedEntryVerifies checks that an entry keeps its hash as JSON.
func TestExportedEntryVerifies(t *testing.T) {
	var again []Entry
	for _, e := range chain(3) {
		text, err := json.Marshal(e)
		require.NoError(t, err)
		var read Entry
		require.NoError(t, json.Unmarshal(text, &read))
		again = append(again, read)
	}
	require.NoError(t, verify(again))
}

func TestClean(t *testing.T) {
	e := Entry{Act: "x\x00\xff", Reason: strings.Repeat("é", 600)}
	e.Link(Head{})
	assert.Equal(t, "x\uFFFD\uFFFD", e.Act)
	assert.LessOrEqual(t, len(e.Reason), maxText+3)
	assert.EqualValues(t, 1, e.Count)
}

func TestHead(t *testing.T) {
	h, err := ParseHead(Head{}.String())
	require.NoError(t, err)
	assert.Zero(t, h.Seq)
	want := Head{Seq: 7, Hash: strings.Repeat("ab", 32)}
	h, err = ParseHead(want.String())
	require.NoError(t, err)
	assert.Equal(t, want, h)
	for _, text := range []string{"", "7", "7:", "x:" + want.Hash, "7:abcd", "-1:" + want.Hash} {
		_, err := ParseHead(text)
		require.ErrorContains(t, err, "is not the head of an audit trail", text)
	}
}

func TestLimiter(t *testing.T) {
	var l Limiter
	now := time.Unix(1800000000, 0)
	flood := identity.Principal{Kind: identity.KindPartner, Node: "B", Proof: identity.ByCertificate}
	own := 0
	for range 1000 {
		admitted, due := l.Admit(flood, now)
		assert.Empty(t, due)
		if admitted {
			own++
		}
	}
	assert.Equal(t, PerPrincipal, own)

	admitted, due := l.Admit(identity.Principal{Kind: identity.KindPartner, Node: "C"}, now)
	assert.True(t, admitted, "the flood of one caller hides no other")
	assert.Empty(t, due)

	assert.Empty(t, l.Due(now.Add(Window-1), false))
	due = l.Due(now.Add(Window), false)
	require.Len(t, due, 1)
	assert.EqualValues(t, 1000-PerPrincipal, due[0].Count)
	assert.Equal(t, "B", due[0].Node)
	assert.Empty(t, l.Due(now.Add(3*Window), true), "a summary is written once")

	admitted, _ = l.Admit(flood, now.Add(3*Window))
	assert.True(t, admitted, "a new window")
}

// TestLimiterBoundsCallers checks that a flood from many addresses is bounded too, and loses no count.
func TestLimiterBoundsCallers(t *testing.T) {
	var l Limiter
	now := time.Unix(1800000000, 0)
	own := int64(0)
	const sent = 5000
	for i := range sent {
		if admitted, _ := l.Admit(identity.Principal{Address: fmt.Sprint("192.0.2.", i)}, now); admitted {
			own++
		}
	}
	assert.LessOrEqual(t, own, int64(PerProcess))
	due := l.Due(now, true)
	assert.LessOrEqual(t, len(due), maxPrincipals+1)
	for _, e := range due {
		own += e.Count
	}
	assert.EqualValues(t, sent, own)
}
