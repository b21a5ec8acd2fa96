// Package vocabulary checks that the project's code, messages and documents use the words of
// docs/glossary.md. Its test runs with `make check`.
package vocabulary

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
)

// MaxLine is the greatest length of a line of Go code, in characters; a tab counts as four.
const MaxLine = 110

// longString is the length of a string literal from which on its line may exceed [MaxLine].
const longString = 60

// Finding is one use of a word that the glossary replaces.
type Finding struct {
	File, Word, Use string
	Line            int
}

func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %q: %s", f.File, f.Line, f.Word, f.Use)
}

// rule is a pattern that must not occur in prose (comments, messages, documents), and what to use in its
// place.
type rule struct {
	pattern *regexp.Regexp
	use     string
}

func words(pattern, use string) rule {
	return rule{regexp.MustCompile(`(?i)\b(?:` + pattern + `)\b`), use}
}

var prose = []rule{
	words(`the engine|an engine|engine's|engines`, `"Temporal", "Docker Engine" or "FATE-Flow"`),
	words(`the seed|seed job|seed's`, `"the reference job" or the specification's section`),
	words(`(?:the|a|this) house|housework|keeps? house`, `"the project", "housekeeping"`),
	words(`rooms?`, `"slot", "resources" or "reservation"`),
	words(`seats?|seated`, `"slot" or "reservation"`),
	words(`tells?|told|telling`, `"returns", "reports", "sends", "shows", "notifies"`),
	words(`hears?|heard|hearing`, `"receives", "heartbeat"`),
	words(`goes on|go on|going on|went on`, `"continues", "resumes"`),
	words(`anew`, `"again"`),
	words(`by itself|by themselves|of its own accord`, `"on its own", or leave it out`),
	words(`in words|own words|with what words|a word|the word of|'s word|'s words`, `"message", "report"`),
	words(`linger(?:s|ing|ed)?`, `"hold grace"`),
	words(`patient|patience`, `"head reservation", "poll delay"`),
	words(`swift(?:ly)?`, `"local activity first"`),
	words(`twins?`, `"duplicate runner"`),
	words(`beside`, `"besides", "next to", "with", "backfill"`),
	words(`(?:its|their|the|a|whose|his|no) turns?|takes? (?:its|a|the) turn`,
		`a verb of the queue: "enqueue", "dequeue"`),
	words(`outdated?|outdates`, `"supersede"`),
	words(`is there already|are there already`, `"already exists"`),
	words(`(?:begins?|began|begun|done|made|run|runs) afresh`, `"again"`),
	words(`whoever`, `name the actor`),
	words(`is wanted|are wanted`, `"is required", "must be"`),
	words(`stands? (?:there|here|for|first|before|behind|in)`, `say what it does`),
	words(`mends?|mended|mending`, `"fix"`),
	words(`a Hutong|Hutongs|two Hutong`, `"a Hutong party"`),
}

// identifiers are parts of names, in lower case, that the glossary replaces.
var identifiers = []rule{
	{regexp.MustCompile(`(?i)(?:^|_)seats?(?:$|_)`), "slot, reservation"},
	{regexp.MustCompile(`(?:[a-z]|^)(?:Seat|Seats)(?:[A-Z]|$)|^seats?[A-Z]|^Seats?(?:[A-Z]|$)`),
		"slot, reservation"},
	{regexp.MustCompile(`^rooms?(?:$|[A-Z])|Rooms?(?:$|[A-Z])`), "slot, resources, reservation"},
	{regexp.MustCompile(`^twins?(?:$|[A-Z])|Twins?(?:$|[A-Z])`), "duplicate"},
	{regexp.MustCompile(`^swift|Swift`), "local first"},
	{regexp.MustCompile(`^linger|Linger`), "hold grace"},
	{regexp.MustCompile(`^told(?:$|[A-Z])|Told(?:$|[A-Z])|^tells?(?:$|[A-Z])|Tells?(?:$|[A-Z])`),
		"report, notify, send"},
	{regexp.MustCompile(`^goesOn|GoesOn`), "say what it does"},
	{regexp.MustCompile(`^courtyard|Courtyard`), "say what it is"},
	{regexp.MustCompile(`^house(?:$|[A-Z])|House(?:$|[A-Z])`), "say what it is"},
	{regexp.MustCompile(`^world(?:$|[A-Z])|World(?:$|[A-Z])`), "say what it is"},
	{regexp.MustCompile(`^(?:seedJob|testSeed)|SeedJob`), "reference job"},
	{regexp.MustCompile(`^native(?:$|[A-Z])|Native(?:$|[A-Z])`), "fateflow"},
}

// CheckGo checks the comments, strings, names and line lengths of a Go file.
func CheckGo(name string, src []byte) ([]Finding, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, parser.ParseComments)
	if err != nil {
		return nil, fmt.Errorf("failed to parse %s: %w", name, err)
	}

	var found []Finding
	add := func(pos token.Pos, rules []rule, text string) {
		line := fset.Position(pos).Line
		for i, l := range strings.Split(text, "\n") {
			found = append(found, match(name, line+i, rules, l)...)
		}
	}

	for _, group := range file.Comments {
		for _, c := range group.List {
			if !strings.HasPrefix(c.Text, "//go:") {
				add(c.Pos(), prose, c.Text)
			}
		}
	}

	mayBeLong := map[int]bool{} // lines with a long or raw string, which can't be broken
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				add(n.Pos(), prose, n.Value)
				first, last := fset.Position(n.Pos()).Line, fset.Position(n.End()).Line
				for l := first; l <= last; l++ {
					mayBeLong[l] = mayBeLong[l] || first < last || len(n.Value) > longString || n.Value[0] == '`'
				}
			}
		case *ast.Ident:
			if n.Obj != nil && n.Obj.Pos() == n.Pos() || isField(n) {
				add(n.Pos(), identifiers, n.Name)
			}
		}
		return true
	})

	for i, l := range strings.Split(string(src), "\n") {
		if width := len([]rune(l)) + 3*strings.Count(l, "\t"); width > MaxLine && !mayBeLong[i+1] && !strings.HasPrefix(l, "//go:") {
			found = append(found, Finding{name, "line", fmt.Sprintf("%d columns, at most %d", width, MaxLine),
				i + 1})
		}
	}
	return found, nil
}

func isField(n *ast.Ident) bool { return n.Obj == nil && ast.IsExported(n.Name) }

// CheckText checks a document, script or configuration file. Fenced code of Markdown is checked too: readers
// copy it.
func CheckText(name string, text []byte) []Finding {
	var found []Finding
	for i, l := range strings.Split(string(text), "\n") {
		found = append(found, match(name, i+1, prose, l)...)
	}
	return found
}

func match(name string, line int, rules []rule, text string) []Finding {
	var found []Finding
	for _, r := range rules {
		for _, at := range r.pattern.FindAllStringIndex(text, -1) {
			word := text[at[0]:at[1]]
			if strings.HasSuffix(text[:at[0]], "Docker ") {
				continue // the Docker Engine's own name
			}
			found = append(found, Finding{filepath.ToSlash(name), word, r.use, line})
		}
	}
	return found
}
