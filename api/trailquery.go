package api

import (
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
	head, err := s.store.AuditHead(c.UserContext()) // first, so that the entries reach it
	if err != nil {
		return err
	}
	entries, err := s.store.AuditEntries(c.UserContext(), filter)
	if err != nil {
		return err
	}
	return ok(c, map[string]any{"entries": entries, "head": head})
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
