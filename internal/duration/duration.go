// Package duration reads and writes durations. Configuration files, environment variables and flags all use
// it, so that the same text means the same everywhere.
package duration

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"github.com/xhit/go-str2duration/v2"
)

// Parse reads a duration: numbers with the units w, d, h, m, s, ms, us or ns, such as 30d, 12h or 1m30s. Only
// 0 needs no unit. A day is 24 hours.
func Parse(text string) (time.Duration, error) {
	d, err := str2duration.ParseDuration(strings.TrimSpace(text))
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration: write numbers with units, such as 30d, 12h or 1m30s "+
			"(units: w, d, h, m, s, ms)", text)
	}
	return d, nil
}

// Format writes a duration as [Parse] reads it, with days as the largest unit: 30d, 1m30s. Zero is 0s.
func Format(d time.Duration) string {
	days := d / (24 * time.Hour)
	rest := (d - days*24*time.Hour).String()
	for _, zero := range []string{"0s", "0m"} { // 12h0m0s is 12h
		if shorter, ok := strings.CutSuffix(rest, zero); ok &&
			strings.TrimRight(shorter, "0123456789") == shorter {
			rest = shorter
		}
	}
	switch {
	case days == 0 && rest == "":
		return "0s"
	case days == 0:
		return rest
	}
	return fmt.Sprintf("%dd%s", days, strings.TrimPrefix(rest, "-"))
}

// value is a flag that holds a duration.
type value struct{ to *time.Duration }

func (v value) String() string {
	if v.to == nil || *v.to == 0 {
		return "0" // the help does not show it as a default
	}
	return Format(*v.to)
}

func (v value) Set(text string) (err error) {
	*v.to, err = Parse(text)
	return err
}

func (v value) Type() string { return "duration" }

// Flag defines a flag that holds a duration.
func Flag(flags *pflag.FlagSet, to *time.Duration, name string, standard time.Duration, usage string) {
	*to = standard
	flags.Var(value{to}, name, usage)
}
