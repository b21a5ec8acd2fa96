//go:build !slim

package devserver

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"

	"go.temporal.io/server/common/log/tag"
)

// temporalLog hands the server's warnings and errors to slog. While the server stops, its parts complain about each other's
// absence at every level, so then it keeps all but debug loggers free of it.
type temporalLog struct {
	to       *slog.Logger
	stopping *atomic.Bool
}

// fatal is what the server's Fatal and Panic become: no library ends this process by itself, but code behind them
// counts on not going on.
type fatal struct{ message string }

func (l temporalLog) log(level slog.Level, msg string, tags []tag.Tag) {
	if l.stopping.Load() {
		level = slog.LevelDebug
	} else if strings.HasPrefix(msg, "HTTP API port has not been set") {
		level = slog.LevelDebug // on purpose: nobody speaks HTTP to it
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
func (l temporalLog) Panic(msg string, tags ...tag.Tag)  { l.end(msg, tags) }
func (l temporalLog) Fatal(msg string, tags ...tag.Tag)  { l.end(msg, tags) }

func (l temporalLog) end(msg string, tags []tag.Tag) {
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
