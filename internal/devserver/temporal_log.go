//go:build !slim

package devserver

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"

	"go.temporal.io/server/common/log/tag"
)

// temporalLog forwards the server's warnings and errors to slog. While the server stops, its services report
// each other as unavailable at all levels, so temporalLog lowers messages to level debug then.
type temporalLog struct {
	to       *slog.Logger
	stopping *atomic.Bool
}

// fatal is the panic value of the server's Fatal and Panic. A library must not exit this process, but the
// code after such a call relies on not being executed.
type fatal struct{ message string }

func (l temporalLog) log(level slog.Level, msg string, tags []tag.Tag) {
	if l.stopping.Load() {
		level = slog.LevelDebug
	} else if strings.HasPrefix(msg, "HTTP API port has not been set") {
		level = slog.LevelDebug // intended: nothing uses the HTTP API
	}
	if !l.to.Enabled(context.Background(), level) {
		return
	}
	attrs := make([]slog.Attr, len(tags))
	for i, t := range tags {
		attrs[i] = slog.Any(t.Key(), t.Value())
	}
	l.to.LogAttrs(context.Background(), level, msg, attrs...)
}

func (l temporalLog) Debug(string, ...tag.Tag)           {}
func (l temporalLog) Info(string, ...tag.Tag)            {}
func (l temporalLog) Warn(msg string, tags ...tag.Tag)   { l.log(slog.LevelWarn, msg, tags) }
func (l temporalLog) Error(msg string, tags ...tag.Tag)  { l.log(slog.LevelError, msg, tags) }
func (l temporalLog) DPanic(msg string, tags ...tag.Tag) { l.log(slog.LevelError, msg, tags) }
func (l temporalLog) Panic(msg string, tags ...tag.Tag)  { l.abort(msg, tags) }
func (l temporalLog) Fatal(msg string, tags ...tag.Tag)  { l.abort(msg, tags) }

func (l temporalLog) abort(msg string, tags []tag.Tag) {
	l.log(slog.LevelError, msg, tags)
	if !l.stopping.Load() {
		for _, t := range tags {
			if t.Key() == "error" {
				if err, ok := t.Value().(error); ok {
					msg += ": " + err.Error()
				}
			}
		}
		panic(fatal{msg})
	}
}
