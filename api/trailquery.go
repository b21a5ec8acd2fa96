package api

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/store"
)

// maxTrailPage bounds the entries of one answer.
const maxTrailPage = 5000

// queryTrail returns entries of the audit trail and its head: the latest first, or in their order with
// order=asc. Reading the trail is an act itself, once a minute for each reader.
func (s *Server) queryTrail(c *fiber.Ctx) error {
	get, err := s.params(c)
	if err != nil {
		return err
	}
	filter, err := trailFilter(get)
	if err != nil {
		return err
	}
	if err := s.recordReadOf(c.UserContext(), audit.Trail, ""); err != nil {
		return err
	}
	page, err := s.store.AuditPage(c.UserContext(), filter)
	if err != nil {
		return err
	}
	answer := map[string]any{"entries": page.Entries, "head": page.Head}
	if page.Base.Seq > 0 {
		answer["base"] = page.Base
	}
	return ok(c, answer)
}

// archiveTime bounds how long a request removes archived entries. The caller repeats it until none is left.
const archiveTime = 5 * time.Second

// archiveTrail removes the entries up to a head, which the caller has archived, and answers how many of them
// are left. A repeated request continues.
func (s *Server) archiveTrail(c *fiber.Ctx) error {
	var body bfia.ArchiveTrail
	if err := s.readJSON(c, &body); err != nil {
		return err
	}
	if body.Seq < 1 {
		return bfia.Errorf(bfia.CodeBadRequest, "seq: must be the number of an entry, from 1 on")
	}
	if raw, err := hex.DecodeString(body.Hash); err != nil || len(raw) != sha256.Size {
		return bfia.Errorf(bfia.CodeBadRequest, "hash: must be the 64 hexadecimal digits of the entry's hash")
	}
	to := audit.Head{Seq: body.Seq, Hash: strings.ToLower(body.Hash)}
	on(c.UserContext(), audit.Trail, to.String())
	base, err := s.store.ArchiveAudit(c.UserContext(), to)
	if err != nil {
		return err
	}
	left, err := s.store.RemoveArchivedAudit(c.UserContext(), time.Now().Add(archiveTime))
	if err != nil {
		return err
	}
	s.logger.Info("audit trail archived", "base", base.String(), "left", left)
	return ok(c, map[string]any{"base": base, "left": left})
}

// trailFilter reads the filter of a request for entries.
func trailFilter(get func(string) string) (store.AuditFilter, error) {
	f := store.AuditFilter{
		Principal: get("principal"),
		Act:       get("act"),
		Outcome:   audit.Outcome(get("outcome")),
	}
	var err error
	for _, t := range []struct {
		name string
		into *time.Time
	}{{"since", &f.Since}, {"until", &f.Until}} {
		text := get(t.name)
		if text == "" {
			continue
		}
		if *t.into, err = time.Parse(time.RFC3339, text); err != nil {
			return f, bfia.Errorf(bfia.CodeBadRequest, "%s: %q is not a time such as 2026-01-02T15:04:05Z",
				t.name, text)
		}
	}
	if f.Outcome != "" && !slices.Contains(audit.Outcomes(), f.Outcome) {
		return f, bfia.Errorf(bfia.CodeBadRequest, "outcome: %q is none of %v", string(f.Outcome),
			audit.Outcomes())
	}
	if object := get("object"); object != "" {
		kind, id, _ := strings.Cut(object, ":")
		if !slices.Contains(audit.ObjectKinds(), audit.ObjectKind(kind)) {
			return f, bfia.Errorf(
				bfia.CodeBadRequest,
				"object: %q has none of the kinds %v; write KIND:ID or KIND",
				object,
				audit.ObjectKinds(),
			)
		}
		f.Object = audit.Object{Kind: audit.ObjectKind(kind), ID: id}
	}
	switch order := get("order"); order {
	case "", "desc":
	case "asc":
		f.Ascending = true
	default:
		return f, bfia.Errorf(bfia.CodeBadRequest, "order: %q is neither asc nor desc", order)
	}
	after, err := number(get, "after", 0, 0, 1<<62)
	if err != nil {
		return f, err
	}
	before, err := number(get, "before", 0, 0, 1<<62)
	if err != nil {
		return f, err
	}
	f.After, f.Before = int64(after), int64(before)
	f.Limit, err = number(get, "limit", 100, 1, maxTrailPage)
	return f, err
}
