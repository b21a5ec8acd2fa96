package calendar

import (
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // machines and images without time zones

	"github.com/robfig/cron/v3"

	"hutong/bfia"
)

const (
	// ShortestInterval is the shortest time between two runs.
	ShortestInterval = 10 * time.Second
	// DefaultCatchup is how late a run may start by default, and MaxCatchup at most.
	DefaultCatchup = time.Hour
	MaxCatchup     = 7 * 24 * time.Hour
	// maxCount bounds the missed runs that are counted.
	maxCount = 10_000
	// reach bounds the offsets of time zones: within it from any local time lies its instant.
	reach = 24 * time.Hour
)

// parser reads the standard form of cron: minute, hour, day of month, month, day of week.
var parser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// Calendar computes the times of a [bfia.Recurrence].
type Calendar struct {
	rule cron.Schedule
	zone *time.Location
	// wall: the rule is read on the clock on the wall.
	wall    bool
	ends    *time.Time
	catchup time.Duration
}

// Parse checks the times and the policies of a recurrence. Its errors name the field.
func Parse(r bfia.Recurrence) (*Calendar, error) {
	c := &Calendar{ends: r.EndsAt, catchup: time.Duration(r.CatchupSeconds) * time.Second}
	if c.catchup == 0 {
		c.catchup = DefaultCatchup
	}
	if r.Overlap != "" && !slices.Contains(bfia.Overlaps(), r.Overlap) {
		return nil, wrong("overlap: %q is not one of %v", string(r.Overlap), bfia.Overlaps())
	}
	if r.CatchupSeconds < 0 || c.catchup < ShortestInterval || c.catchup > MaxCatchup {
		return nil, wrong("catchup_seconds: %d is not from %d to %d", r.CatchupSeconds,
			int(ShortestInterval.Seconds()), int(MaxCatchup.Seconds()))
	}
	if r.PauseOnFailure < 0 || r.PauseOnFailure > 1000 {
		return nil, wrong("pause_on_failure: %d is not from 0 to 1000; 0 means never", r.PauseOnFailure)
	}
	if r.Count < 0 || r.Count > 1_000_000 {
		return nil, wrong("count: %d is not from 0 to 1000000; 0 means no limit", r.Count)
	}
	if err := c.parseZone(r.Timezone); err != nil {
		return nil, err
	}
	return c, c.parseCron(r.Cron)
}

func (c *Calendar) parseZone(name string) (err error) {
	if name == "Local" {
		return wrong("timezone: %q depends on the machine; write a name such as Asia/Shanghai", name)
	}
	if c.zone, err = time.LoadLocation(name); err != nil {
		return wrong("timezone: %q is not the name of a time zone; write one such as Asia/Shanghai, or UTC",
			name)
	}
	return nil
}

func (c *Calendar) parseCron(text string) error {
	text = strings.TrimSpace(text)
	const forms = "write minute, hour, day of month, month and day of week, such as '0 2 * * *' for each " +
		"day at 02:00, or @daily, or @every 6h"
	if text == "" {
		return wrong("cron: is required; %s", forms)
	}
	if strings.HasPrefix(text, "TZ=") || strings.HasPrefix(text, "CRON_TZ=") {
		return wrong("cron: %q names a time zone; name it in the field timezone", text)
	}
	rule, err := parser.Parse(text)
	if err != nil {
		return bfia.Wrap(bfia.CodeBadRequest, err, "cron: %q is not understood: %v; %s", text, err, forms)
	}
	if every, ok := rule.(cron.ConstantDelaySchedule); ok {
		if every.Delay < ShortestInterval {
			return wrong("cron: %q is shorter than %s", text, ShortestInterval)
		}
		c.rule = rule
		return nil
	}
	spec := rule.(*cron.SpecSchedule) // the only other type of the parser
	spec.Location = time.UTC
	fields := strings.Fields(text)
	c.wall = len(fields) < 5 && text != "@hourly" || len(fields) == 5 && !strings.HasPrefix(fields[1], "*")
	if !c.wall {
		spec.Location = c.zone
	}
	c.rule = spec
	if c.rule.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return wrong("cron: %q names no day that exists", text)
	}
	return nil
}

// Next returns the first time after another one, or the zero time if there is none.
func (c *Calendar) Next(after time.Time) time.Time {
	next := c.next(after)
	if c.ends != nil && next.After(*c.ends) {
		return time.Time{}
	}
	return next
}

func (c *Calendar) next(after time.Time) time.Time {
	if !c.wall {
		next := c.rule.Next(after.In(c.zone))
		if next.IsZero() {
			return next
		}
		return next.UTC()
	}
	// In a repeated hour, wall times that have passed once come again: they are not after.
	for wall := onWall(after.In(c.zone)); ; {
		if wall = c.rule.Next(wall); wall.IsZero() {
			return time.Time{}
		}
		if at := instant(wall, c.zone); at.After(after) {
			return at
		}
	}
}

// Upcoming returns the next times after another one, at most n.
func (c *Calendar) Upcoming(after time.Time, n int) []time.Time {
	times := []time.Time{}
	for range n {
		if after = c.Next(after); after.IsZero() {
			break
		}
		times = append(times, after)
	}
	return times
}

// Due is what a periodic job has to do at a time.
type Due struct {
	// Run is the latest scheduled time that is due and may still run.
	Run *time.Time `json:"run,omitempty"`
	// Missed counts the scheduled times before Run, or all if nothing may run. It is exact up to 10,000.
	Missed int `json:"missed,omitempty"`
	// First and Last are the first and the last missed time.
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
	// Next is the first time that is not due, or nil if there is none.
	Next *time.Time `json:"next,omitempty"`
}

// Due returns what is due at now of the times after another one. Of several times only the latest runs, if it
// is not later than the recurrence allows.
func (c *Calendar) Due(after, now time.Time) Due {
	var due Due
	latest := time.Time{}
	for at := c.Next(after); ; at = c.Next(at) {
		if at.IsZero() {
			break
		}
		if at.After(now) {
			due.Next = &at
			break
		}
		if !latest.IsZero() {
			due.miss(latest)
		}
		latest = at
		if due.Missed == maxCount {
			at = c.skipTo(at, now.Add(-c.catchup)) // count no further
		}
	}
	if latest.IsZero() {
		return due
	}
	if now.Sub(latest) > c.catchup {
		due.miss(latest)
		return due
	}
	due.Run = &latest
	return due
}

// skipTo returns a time up to to from which the same times follow as from at, or at.
func (c *Calendar) skipTo(at, to time.Time) time.Time {
	if !to.After(at) {
		return at
	}
	if every, ok := c.rule.(cron.ConstantDelaySchedule); ok {
		return at.Add(to.Sub(at) / every.Delay * every.Delay)
	}
	return to
}

func (d *Due) miss(at time.Time) {
	if d.Missed == 0 {
		d.First = at
	}
	d.Last = at
	d.Missed = min(d.Missed+1, maxCount)
}

// onWall returns what a clock in a time's zone shows, as if it were UTC.
func onWall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

// instant returns when a clock in a zone shows a wall time: at first if it does so twice, and the moment of
// the change if it skips that time.
func instant(wall time.Time, zone *time.Location) time.Time {
	_, before := wall.Add(-reach).In(zone).Zone()
	_, after := wall.Add(reach).In(zone).Zone()
	early := wall.Add(-time.Duration(max(before, after)) * time.Second)
	late := wall.Add(-time.Duration(min(before, after)) * time.Second)
	switch {
	case onWall(early.In(zone)).Equal(wall):
		return early.UTC()
	case onWall(late.In(zone)).Equal(wall):
		return late.UTC()
	}
	change, _ := late.In(zone).ZoneBounds()
	return change.UTC()
}

func wrong(format string, args ...any) error {
	return bfia.Errorf(bfia.CodeBadRequest, format, args...)
}
