package notify

import (
	"strings"
	"time"

	"hutong/bfia"
)

// Message is what a person reads.
type Message struct {
	Subject string `json:"subject"` // one line
	Text    string `json:"text"`    // several lines
}

// Write writes the message of an event, with a link or "".
func Write(language Language, e Event, link string) Message {
	c, known := catalogues[language]
	if !known {
		c = catalogues[English]
	}
	since := ""
	if e.Since != nil {
		since = e.Since.UTC().Format(time.RFC3339)
	}
	values := strings.NewReplacer("{since}", since, "{jobs}", itoa(e.Jobs),
		"{node}", e.NodeID, "{job}", e.JobID, "{flow}", e.FlowID,
		"{initiator}", e.Initiator, "{partner}", e.Partner, "{dataset}", e.Dataset,
		"{request}", e.RequestID, "{runner}", e.RunnerID, "{machine}", e.Machine,
		"{outcome}", c.outcome(e.Outcome), "{reason}", c.reason(e.Failure),
		"{time}", e.Time.UTC().Format(time.RFC3339), "{link}", link)
	t := c.messages[e.Kind]
	lines := []string{t.text}
	if e.FlowID != "" {
		lines = append(lines, c.flow)
	}
	if e.Initiator != "" {
		lines = append(lines, c.initiator)
	}
	if e.Failure != nil {
		lines = append(lines, c.because)
	}
	lines = append(lines, c.time)
	if link != "" {
		lines = append(lines, "", c.link)
	} else if t.command != "" {
		lines = append(lines, "", t.command)
	}
	for i := range lines {
		lines[i] = values.Replace(lines[i])
	}
	return Message{Subject: oneLine(values.Replace(t.subject)), Text: strings.Join(lines, "\n") + "\n"}
}

// oneLine keeps names of partners from adding lines to a subject, which is a header.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func (c *catalogue) outcome(o bfia.Outcome) string {
	if text, known := c.outcomes[o]; known {
		return text
	}
	return string(o)
}

// reason returns why a job failed: where, and the kind of failure or what a person wrote.
func (c *catalogue) reason(f *bfia.Failure) string {
	if f == nil {
		return ""
	}
	text, known := c.failures[f.Kind]
	switch {
	case f.Message != "":
		text = f.Message
	case !known:
		text = string(f.Kind)
	}
	if f.Kind == bfia.FailedExit {
		text = strings.ReplaceAll(text, "{code}", itoa(f.ExitCode))
	}
	if f.By != "" && f.Message == "" {
		text += c.by + f.By
	}
	if f.Task != "" {
		text = strings.NewReplacer("{task}", f.Task, "{at}", f.NodeID, "{text}", text).Replace(c.where)
	}
	return text
}
