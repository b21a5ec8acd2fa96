package calendar

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"hutong/bfia"
)

func at(t require.TestingT, text string) time.Time {
	parsed, err := time.Parse(time.RFC3339, text)
	require.NoError(t, err)
	return parsed
}

func parse(t require.TestingT, cron, zone string) *Calendar {
	c, err := Parse(bfia.Recurrence{Cron: cron, Timezone: zone})
	require.NoError(t, err)
	return c
}

// TestNext compares the next times of expressions with tables: month ends, leap years, time zones, and the
// changes of the clock.
func TestNext(t *testing.T) {
	for _, c := range []struct {
		name, cron, zone, after string
		want                    []string // as the clock of the zone shows them
	}{
		{"daily in UTC", "0 2 * * *", "", "2026-11-29T02:00:00Z",
			[]string{"2026-11-30T02:00:00Z", "2026-12-01T02:00:00Z"}},
		{"daily in Shanghai", "0 2 * * *", "Asia/Shanghai", "2026-11-29T17:59:59Z",
			[]string{"2026-11-30T02:00:00+08:00", "2026-12-01T02:00:00+08:00"}},
		{"a zone with half an hour", "30 9 * * *", "Asia/Kolkata", "2026-01-01T00:00:00Z",
			[]string{"2026-01-01T09:30:00+05:30"}},
		{"31st of a month", "0 0 31 * *", "", "2026-01-31T00:00:00Z",
			[]string{"2026-03-31T00:00:00Z", "2026-05-31T00:00:00Z"}},
		{"29 February", "0 0 29 2 *", "", "2026-01-01T00:00:00Z",
			[]string{"2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"}},
		{"end of the year", "@yearly", "Asia/Shanghai", "2026-12-31T15:59:59Z",
			[]string{"2027-01-01T00:00:00+08:00"}},
		{"weekdays", "0 8 * * MON-FRI", "", "2026-11-27T08:00:00Z",
			[]string{"2026-11-30T08:00:00Z", "2026-12-01T08:00:00Z"}},
		{"day of the month or of the week", "0 0 13 * 5", "", "2026-11-06T00:00:00Z",
			[]string{"2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z"}},

		// Berlin: 2026-03-29 02:00 becomes 03:00, 2026-10-25 03:00 becomes 02:00.
		{"a skipped time runs at the change", "30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z",
			[]string{"2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"}},
		{"skipped times run once", "*/10 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z",
			[]string{"2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"}},
		{"the first time after the change", "0 3 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z",
			[]string{"2026-03-29T03:00:00+02:00", "2026-03-30T03:00:00+02:00"}},
		{"a repeated time runs once", "30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z",
			[]string{"2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"}},
		{"from within the repeated hour", "30,45 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z",
			[]string{"2026-10-26T02:30:00+01:00", "2026-10-26T02:45:00+01:00"}},
		{"each hour follows real time, forward", "15 * * * *", "Europe/Berlin", "2026-03-29T00:00:00Z",
			[]string{"2026-03-29T01:15:00+01:00", "2026-03-29T03:15:00+02:00"}},
		{"each hour follows real time, back", "15 * * * *", "Europe/Berlin", "2026-10-25T00:00:00Z",
			[]string{"2026-10-25T02:15:00+02:00", "2026-10-25T02:15:00+01:00",
				"2026-10-25T03:15:00+01:00"}},
		{"@hourly too", "@hourly", "Europe/Berlin", "2026-10-24T23:59:00Z",
			[]string{"2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"}},
		// Cairo's clock skips midnight: 2026-04-24 00:00 becomes 01:00.
		{"a day without midnight", "@daily", "Africa/Cairo", "2026-04-23T12:00:00Z",
			[]string{"2026-04-24T01:00:00+03:00", "2026-04-25T00:00:00+03:00"}},
		// Lord Howe's clock moves by half an hour.
		{"a change of half an hour", "15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00:00Z",
			[]string{"2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"}},
		// Samoa had no 30 December 2011.
		{"a skipped day", "0 6 * * *", "Pacific/Apia", "2011-12-29T20:00:00Z",
			[]string{"2011-12-31T00:00:00+14:00", "2011-12-31T06:00:00+14:00"}},

		{"@every", "@every 90m", "Europe/Berlin", "2026-03-28T23:45:00Z",
			[]string{"2026-03-29T03:15:00+02:00", "2026-03-29T04:45:00+02:00"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			calendar := parse(t, c.cron, c.zone)
			var got []string
			for _, next := range calendar.Upcoming(at(t, c.after), len(c.want)) {
				got = append(got, next.In(calendar.zone).Format(time.RFC3339))
			}
			assert.Equal(t, c.want, got)
		})
	}
}

// TestNextIsIncreasing checks that times only increase, that none is left out, and that an expression with a
// fixed time names each day once, in all years and zones.
func TestNextIsIncreasing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zone := rapid.SampledFrom([]string{"UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York",
			"Africa/Cairo", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kathmandu"}).Draw(t, "zone")
		cron := rapid.SampledFrom([]string{"30 2 * * *", "0 0 * * *", "59 23 * * *", "30 1 * * *"}).
			Draw(t, "cron")
		c := parse(t, cron, zone)
		from := time.Unix(rapid.Int64Range(1577836800, 1893456000).Draw(t, "from"), 0).UTC()
		last, days := from, map[string]bool{}
		for range 400 {
			next := c.Next(last)
			require.True(t, next.After(last), "%s after %s", next, last)
			require.Equal(t, next, c.Next(next.Add(-time.Second)), "nothing is between")
			day := next.In(c.zone).Format(time.DateOnly)
			require.False(t, days[day], "%s has two", day)
			days[day] = true
			require.Less(t, next.Sub(last), 26*time.Hour)
			last = next
		}
	})
}

func TestEnds(t *testing.T) {
	end := at(t, "2026-12-02T00:00:00Z")
	c, err := Parse(bfia.Recurrence{Cron: "@daily", EndsAt: &end})
	require.NoError(t, err)
	require.Len(t, c.Upcoming(at(t, "2026-11-30T00:00:00Z"), 5), 2, "the end itself counts")
	due := c.Due(at(t, "2026-12-01T00:00:00Z"), at(t, "2026-12-02T00:00:00Z"))
	require.Equal(t, end, *due.Run)
	require.Nil(t, due.Next)
}

func TestDue(t *testing.T) {
	c := parse(t, "0 * * * *", "")
	next := func(text string) *time.Time { at := at(t, text); return &at }
	after := at(t, "2026-11-29T00:00:00Z")

	require.Equal(t, Due{Next: next("2026-11-29T01:00:00Z")}, c.Due(after, at(t, "2026-11-29T00:59:59Z")))
	require.Equal(t, Due{Run: next("2026-11-29T01:00:00Z"), Next: next("2026-11-29T02:00:00Z")},
		c.Due(after, at(t, "2026-11-29T01:00:00Z")))
	require.Equal(t, Due{Run: next("2026-11-29T05:00:00Z"), Next: next("2026-11-29T06:00:00Z"),
		Missed: 4, First: at(t, "2026-11-29T01:00:00Z"), Last: at(t, "2026-11-29T04:00:00Z")},
		c.Due(after, at(t, "2026-11-29T05:59:00Z")), "the latest of several runs")

	c, err := Parse(bfia.Recurrence{Cron: "@daily", CatchupSeconds: 600})
	require.NoError(t, err)
	require.Equal(t, Due{Next: next("2026-12-02T00:00:00Z"), Missed: 2,
		First: at(t, "2026-11-30T00:00:00Z"), Last: at(t, "2026-12-01T00:00:00Z")},
		c.Due(after, at(t, "2026-12-01T00:10:01Z")), "too late")
	require.NotNil(t, c.Due(after, at(t, "2026-12-01T00:10:00Z")).Run)

	// A year of missed runs is counted up to a limit, and the times keep their distance.
	c = parse(t, "@every 10s", "")
	due := c.Due(after.Add(3*time.Second), after.AddDate(1, 0, 0))
	require.Equal(t, maxCount, due.Missed)
	require.Equal(t, 3, due.Run.Second()%10)
	require.Equal(t, 10*time.Second, due.Next.Sub(*due.Run))
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct {
		r    bfia.Recurrence
		want string
	}{
		{bfia.Recurrence{}, "cron: is required"},
		{bfia.Recurrence{Cron: "0 2 * *"}, "cron: "},
		{bfia.Recurrence{Cron: "0 0 2 * * *"}, "cron: "},
		{bfia.Recurrence{Cron: "61 2 * * *"}, "cron: "},
		{bfia.Recurrence{Cron: "@reboot"}, "cron: "},
		{bfia.Recurrence{Cron: "@every"}, "cron: "},
		{bfia.Recurrence{Cron: "@every 5s"}, "shorter than 10s"},
		{bfia.Recurrence{Cron: "@every 0s"}, "shorter than 10s"},
		{bfia.Recurrence{Cron: "0 0 31 2 *"}, "no day that exists"},
		{bfia.Recurrence{Cron: "TZ=Asia/Shanghai 0 2 * * *"}, "field timezone"},
		{bfia.Recurrence{Cron: "@daily", Timezone: "Local"}, "timezone: "},
		{bfia.Recurrence{Cron: "@daily", Timezone: "Mars/Base"}, "timezone: "},
		{bfia.Recurrence{Cron: "@daily", Timezone: "../etc/passwd"}, "timezone: "},
		{bfia.Recurrence{Cron: "@daily", Overlap: "both"}, "overlap: "},
		{bfia.Recurrence{Cron: "@daily", CatchupSeconds: 5}, "catchup_seconds: "},
		{bfia.Recurrence{Cron: "@daily", CatchupSeconds: 8 * 86400}, "catchup_seconds: "},
		{bfia.Recurrence{Cron: "@daily", PauseOnFailure: -1}, "pause_on_failure: "},
		{bfia.Recurrence{Cron: "@daily", Count: -1}, "count: "},
	} {
		_, err := Parse(c.r)
		require.ErrorContains(t, err, c.want, "%+v", c.r)
		require.Equal(t, bfia.CodeBadRequest, bfia.CodeOf(err), "%+v", c.r)
	}
}
