package doctor

import (
	"context"
	"log/slog"
	"strings"

	"hutong/internal/party"
)

// checkRestore compares the restore marks of the database, Temporal and the storage.
func checkRestore(ctx context.Context, cfg *party.Config) Check {
	db, refused := openDatabase(ctx, cfg) // an examination makes no database and no folder
	if refused != nil {
		return *refused
	}
	_ = db.Close()
	if path, missing := missingFile(cfg.Storage.URL.Reveal(), "file"); missing {
		return warning("see the check of storage", "the storage %s does not exist", path)
	}
	services, closeAll, err := party.OpenServices(ctx, cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return warning("see the checks of temporal, database and storage",
			"failed to compare the restore marks: %v", err)
	}
	defer closeAll()
	marks, err := services.Marks(ctx)
	if err != nil {
		return warning("see the checks of temporal, database and storage",
			"failed to compare the restore marks: %v", err)
	}
	if problems := marks.Problems(); len(problems) > 0 {
		const fix = "stop all processes of the party, then run 'hutong restore check' and 'hutong restore " +
			"finish' with this configuration"
		return failed(fix, "a service was restored from a backup: %s", strings.Join(problems, "; "))
	}
	if at := marks.Database.RestoredAt; at != nil {
		return ok("database, Temporal and storage belong together; a restore was finished at %s",
			at.Format("2006-01-02 15:04:05Z"))
	}
	return ok("database, Temporal and storage belong together")
}
