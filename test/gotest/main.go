// Command gotest runs go test and records which tests were skipped, and why, and which failed. It needs Go
// only.
//
//	gotest FILE go test ARGS...   runs the tests and appends what they skipped and what failed to FILE
//	gotest -note FILE WHAT WHY    appends something that was left out as a whole
//	gotest -print FILE            prints what took longest, what was left out, by reason, and what failed
//
// A test that one run skips and another one passes is not left out.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

func main() {
	code, err := run(os.Args[1:], os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		code = 1
	}
	os.Exit(code)
}

func run(args []string, out io.Writer) (int, error) {
	switch {
	case len(args) == 4 && args[0] == "-note":
		return 0, record(args[1], []leftOut{{What: args[2], Why: args[3]}})
	case len(args) == 2 && args[0] == "-print":
		return printLeftOut(args[1], out)
	case len(args) > 3 && args[1] != "" && !strings.HasPrefix(args[0], "-"):
		return runTests(args[0], args[1:], out)
	}
	return 2, errors.New("usage: gotest FILE go test ARGS... | gotest -note FILE WHAT WHY | gotest -print FILE")
}

// leftOut is something that was not tested, or a test that passed or failed.
type leftOut struct {
	What   string `json:"what"`
	Why    string `json:"why,omitempty"`
	Passed bool   `json:"passed,omitempty"`
	Failed bool   `json:"failed,omitempty"`
	// Seconds are how long a test ran, without the time in which it waited for others.
	Seconds float64 `json:"seconds,omitempty"`
}

// runTests runs go test. Its output is that of go test without -json.
func runTests(file string, command []string, out io.Writer) (int, error) {
	verbose := slices.Contains(command, "-v")
	i := slices.Index(command, "test") + 1
	cmd := exec.Command(command[0], slices.Insert(slices.Clone(command[1:]), i-1, "-json")...)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return 1, err
	}
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	results, err := follow(pipe, out, verbose)
	code := 0
	if waited := cmd.Wait(); waited != nil {
		code = max(1, cmd.ProcessState.ExitCode())
	}
	return code, errors.Join(err, record(file, results))
}

// event is a line of go test -json (go doc test2json).
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

// follow prints the output of tests that fail and of packages. It returns how each test ended, and the
// packages that failed outside a test.
func follow(events io.Reader, out io.Writer, verbose bool) (results []leftOut, err error) {
	output := map[string][]string{} // by package and test
	failed := map[string]bool{}     // packages with a failed test
	lines := bufio.NewReader(events)
	for {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) {
			return results, nil
		}
		if err != nil {
			return results, err
		}
		var e event
		if json.Unmarshal([]byte(line), &e) != nil { // not of a test, such as a build's
			_, _ = io.WriteString(out, line)
			continue
		}
		key := e.Package + " " + e.Test
		name := strings.TrimPrefix(e.Package, "hutong/") + " " + e.Test
		switch e.Action {
		case "output", "build-output":
			if verbose || e.Test == "" && e.Output != "PASS\n" {
				_, _ = io.WriteString(out, e.Output)
			} else {
				output[key] = append(output[key], e.Output)
			}
		case "fail":
			_, _ = io.WriteString(out, strings.Join(output[key], ""))
			delete(output, key)
			if e.Test == "" { // a panic in another goroutine ends the tests that run, and they have no result
				printUnended(out, output, e.Package)
			}
			if e.Test != "" || !failed[e.Package] {
				results = append(results, leftOut{What: strings.TrimSpace(name), Failed: true})
			}
			failed[e.Package] = true
		case "pass":
			if e.Test != "" {
				results = append(results, leftOut{What: name, Passed: true, Seconds: e.Elapsed})
			}
			delete(output, key)
		case "skip":
			if e.Test != "" {
				results = append(results, leftOut{What: name, Why: reason(output[key])})
			}
			delete(output, key)
		}
	}
}

// printUnended prints the output of a package's tests that have not ended.
func printUnended(out io.Writer, output map[string][]string, pkg string) {
	for _, key := range slices.Sorted(maps.Keys(output)) {
		if strings.HasPrefix(key, pkg+" ") {
			_, _ = io.WriteString(out, strings.Join(output[key], ""))
			delete(output, key)
		}
	}
}

// position is the place of a call of Skip, which go test prints before the reason.
var position = regexp.MustCompile(`^\s*\S+\.go:\d+: `)

// reason returns why a test was skipped: what it printed last, without logs.
func reason(output []string) string {
	var words []string
	for _, line := range output {
		if strings.HasPrefix(line, "time=") { // a log line of another test
			continue
		}
		if position.MatchString(line) {
			words = nil
		}
		if text := strings.TrimSpace(line); text != "" && !strings.HasPrefix(text, "=== ") &&
			!strings.HasPrefix(text, "--- ") {
			words = append(words, position.ReplaceAllString(text, ""))
		}
	}
	if len(words) == 0 {
		return "the test gives no reason"
	}
	return strings.Join(words, " ")
}

func record(file string, all []leftOut) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	for _, l := range all {
		line, err := json.Marshal(l)
		if err == nil {
			_, err = f.Write(append(line, '\n'))
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

// printLeftOut prints what was left out, grouped by reason, and what failed.
func printLeftOut(file string, out io.Writer) (int, error) {
	content, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		content, err = nil, nil
	}
	if err != nil {
		return 1, err
	}
	var all []leftOut
	passed := map[string]bool{}
	for line := range strings.Lines(string(content)) {
		var l leftOut
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			return 1, err
		}
		all = append(all, l)
		passed[l.What] = passed[l.What] || l.Passed
	}
	var reasons, failed []string
	byReason := map[string][]string{}
	for _, l := range all {
		if l.Failed && !slices.Contains(failed, l.What) {
			failed = append(failed, l.What)
		}
		if l.Failed || passed[l.What] {
			continue
		}
		if byReason[l.Why] == nil {
			reasons = append(reasons, l.Why)
		}
		if !slices.Contains(byReason[l.Why], l.What) {
			byReason[l.Why] = append(byReason[l.Why], l.What)
		}
	}
	printSlowest(out, all)
	if len(reasons)+len(failed) == 0 {
		_, _ = fmt.Fprintln(out, "All tests ran; nothing was left out.")
		return 0, nil
	}
	if len(reasons) > 0 {
		_, _ = fmt.Fprintln(out, "\nLeft out:")
		for _, why := range reasons {
			printGroup(out, why, byReason[why])
		}
		_, _ = fmt.Fprintln(out, "'make setup' (as root, on Debian) installs what the tests use.")
	}
	if len(failed) > 0 {
		_, _ = fmt.Fprintln(out)
		printGroup(out, "Failed (see above):", failed)
	}
	return 0, nil
}

// printSlowest prints the tests that took longest, without their subtests.
func printSlowest(out io.Writer, all []leftOut) {
	all = slices.DeleteFunc(slices.Clone(all), func(l leftOut) bool {
		return l.Seconds < slow || strings.Contains(testOf(l.What), "/")
	})
	if len(all) == 0 {
		return
	}
	slices.SortStableFunc(all, func(a, b leftOut) int { return cmp.Compare(b.Seconds, a.Seconds) })
	items := make([]string, min(len(all), maxSlowest))
	for i := range items {
		items[i] = fmt.Sprintf("%4.0f s  %s", all[i].Seconds, all[i].What)
	}
	_, _ = fmt.Fprintln(out)
	printGroup(out, "Took longest:", items)
}

const (
	// slow is how many seconds a test must take to be listed.
	slow = 10
	// maxSlowest bounds the list.
	maxSlowest = 25
)

// testOf returns the test's name from the package and the name.
func testOf(what string) string {
	_, test, _ := strings.Cut(what, " ")
	return test
}

func printGroup(out io.Writer, title string, items []string) {
	_, _ = fmt.Fprintf(out, "  %s\n", title)
	for _, item := range items {
		_, _ = fmt.Fprintf(out, "    %s\n", item)
	}
}
