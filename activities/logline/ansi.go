package logline

import (
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// StripANSI removes colours and other control sequences of terminals.
func StripANSI(text string) string {
	if strings.IndexByte(text, '\x1b') < 0 {
		return text
	}
	return ansi.Strip(text)
}
