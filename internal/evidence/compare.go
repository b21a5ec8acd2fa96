package evidence

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Finding is one point at which two archives agree or differ.
type Finding struct {
	Agrees bool
	Text   string
}

// names reports whether a certificate names a node, by the URI SAN hutong://NODE or by DNS SAN.
func names(cert *x509.Certificate, node string) bool {
	for _, u := range cert.URIs {
		if u.Scheme == "hutong" && strings.EqualFold(u.Host, node) {
			return true
		}
	}
	return slices.ContainsFunc(
		cert.DNSNames,
		func(name string) bool { return strings.EqualFold(name, node) },
	)
}

// Compare holds the archives of two parties about one job against each other.
func Compare(a, b *Archive) []Finding {
	c := &comparison{a: &a.Facts, b: &b.Facts}
	x, y := c.a, c.b
	c.same("job", x.JobID, y.JobID)
	if x.NodeID == y.NodeID {
		c.differ("both archives are of %s", x.NodeID)
	}
	c.same("content of the job's document (SHA-256)", x.ContentSHA256, y.ContentSHA256)
	c.same("initiator", x.Initiator, y.Initiator)
	c.same("scheduler", x.Scheduler, y.Scheduler)
	c.same("parties", sorted(x.Parties), sorted(y.Parties))
	c.same("state of the job", x.State, y.State)
	c.same("outcome of the job", x.Outcome, y.Outcome)
	c.tasks()
	c.components()
	c.transfers(x, y)
	c.transfers(y, x)
	c.approvals()
	return c.findings
}

type comparison struct {
	a, b     *Facts
	findings []Finding
}

func (c *comparison) agree(format string, args ...any) {
	c.findings = append(c.findings, Finding{true, fmt.Sprintf(format, args...)})
}

func (c *comparison) differ(format string, args ...any) {
	c.findings = append(c.findings, Finding{false, fmt.Sprintf(format, args...)})
}

func (c *comparison) same(what, a, b string) {
	if a == b {
		c.agree("%s: %s", what, cmp.Or(a, "-"))
		return
	}
	c.differ("%s: %s at %s, %s at %s", what, cmp.Or(a, "-"), c.a.NodeID, cmp.Or(b, "-"), c.b.NodeID)
}

func sorted(list []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(list))), ", ")
}

// taskOf summarises the parts of a task at one party.
type taskOf struct{ id, state, component, attempt string }

func tasksOf(f *Facts) map[string]taskOf {
	tasks := map[string]taskOf{}
	for _, p := range f.Parts {
		t := taskOf{p.TaskID, p.State, p.Component + " of " + p.Provider, fmt.Sprint(p.Attempt)}
		if before, known := tasks[p.Task]; known && before.state != t.state {
			t.state = before.state + " and " + t.state
		}
		tasks[p.Task] = t
	}
	return tasks
}

// tasks compares the tasks in which both parties have a part.
func (c *comparison) tasks() {
	a, b := tasksOf(c.a), tasksOf(c.b)
	both := 0
	for _, name := range slices.Sorted(maps.Keys(a)) {
		x, y := a[name], b[name]
		if _, here := b[name]; !here {
			continue // a task of other roles
		}
		both++
		c.same("task "+name+", its id", x.id, y.id)
		c.same("task "+name+", its component", x.component, y.component)
		c.same("task "+name+", its state", x.state, y.state)
	}
	if both == 0 {
		c.differ("the parties have no task in common")
	}
}

// components compares the descriptions of components. Images may differ: each party runs what is registered
// there.
func (c *comparison) components() {
	key := func(x Component) string { return x.Component + " of " + x.Provider }
	descriptions := map[string]string{}
	for _, x := range c.b.Components {
		descriptions[key(x)] = x.DescriptionSHA256
	}
	for _, x := range c.a.Components {
		if other, known := descriptions[key(x)]; known {
			c.same("description of component "+key(x)+" (SHA-256)", x.DescriptionSHA256, other)
		}
	}
}

// transfers compares what one party has sent to the other with what that one has received from it, by
// session.
func (c *comparison) transfers(from, to *Facts) {
	if !from.TransfersComplete || !to.TransfersComplete {
		c.differ("bytes from %s to %s: a party's transport has not reported them", from.NodeID, to.NodeID)
		return
	}
	sent, received := map[string]Transfer{}, map[string]Transfer{}
	for _, t := range from.Transfers {
		if t.NodeID == to.NodeID {
			sent[t.SessionID] = t
		}
	}
	for _, t := range to.Transfers {
		if t.NodeID == from.NodeID {
			received[t.SessionID] = t
		}
	}
	sessions := maps.Clone(sent)
	maps.Copy(sessions, received)
	for _, session := range slices.Sorted(maps.Keys(sessions)) {
		s, r := sent[session], received[session]
		what := fmt.Sprintf("session %s, from %s to %s", session, from.NodeID, to.NodeID)
		switch {
		case s.Sent == r.Received && s.SentMessages == r.ReceivedMessages:
			c.agree("%s: %d bytes in %d messages", what, s.Sent, s.SentMessages)
		case s.Incomplete || r.Incomplete:
			c.differ(
				"%s: %d bytes sent, %d received; a transport crashed meanwhile, so its number is a lower bound",
				what,
				s.Sent,
				r.Received,
			)
		case r.Received > s.Sent && r.Received <= s.Sent+s.Unconfirmed:
			c.agree(
				"%s: %d bytes received, of which %d were confirmed to the sender",
				what,
				r.Received,
				s.Sent,
			)
		default:
			c.differ("%s: %d bytes in %d messages sent, %d bytes in %d messages received", what, s.Sent,
				s.SentMessages, r.Received, r.ReceivedMessages)
		}
	}
	if len(sessions) == 0 {
		c.agree("no bytes from %s to %s", from.NodeID, to.NodeID)
	}
}

// approvals checks that no party has rejected a job that the other one says succeeded.
func (c *comparison) approvals() {
	for _, f := range []*Facts{c.a, c.b} {
		if f.TrailArchived != nil {
			c.differ("%s: entries and approvals may be missing, since the entries up to %d are archived", f.NodeID,
				f.TrailArchived.Seq)
		}
		for _, a := range f.Approvals {
			text := fmt.Sprintf(
				"%s: %s by %s at %s",
				f.NodeID,
				a.Act,
				a.Principal,
				a.At.Format("2006-01-02 15:04:05"),
			)
			if a.Act == "job.reject" && f.Outcome == "SUCCESS" {
				c.differ("%s, and the job ran", text)
				continue
			}
			c.agree("%s", text)
		}
	}
}
