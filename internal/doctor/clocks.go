package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"hutong/activities"
	"hutong/internal/party"
	"hutong/store"
)

// maxSkew is the difference of clocks from which on the doctor warns. Times in logs and in the status
// contradict each other then.
const maxSkew = 5 * time.Second

// checkClocks compares the clocks of this machine and of the online runners with the database's.
func checkClocks(ctx context.Context, cfg *party.Config) Check {
	const fix = "synchronize the clocks of all machines of the party, for example with chronyd"
	db, refused := openDatabase(ctx, cfg)
	if refused != nil {
		return *refused
	}
	defer func() { _ = db.Close() }()

	before := time.Now()
	now, err := db.Now(ctx)
	if err != nil {
		return failed(fixDatabase, "%v", err)
	}
	runners, err := db.Runners(ctx, activities.RunnerSilentAfter)
	if err != nil {
		return failed(fixDatabase, "failed to read the table of runners: %v", err)
	}

	var found []string
	if skew := before.Sub(now); skew.Abs() > maxSkew {
		found = append(found, "this machine's clock is "+describeSkew(skew))
	}
	for _, r := range runners {
		if skew := time.Duration(r.ClockSkewMS) * time.Millisecond; skew.Abs() > maxSkew {
			found = append(found, fmt.Sprintf("the clock of runner %s is %s", r.RunnerID, describeSkew(skew)))
		}
	}
	if len(found) > 0 {
		return warning(fix, "%s", strings.Join(found, "; "))
	}

	return ok("the clocks of this machine and of %d online runner(s) agree with the database's", len(runners))
}

func describeSkew(skew time.Duration) string {
	direction := "ahead of"
	if skew < 0 {
		direction = "behind"
	}

	return fmt.Sprintf("%s %s the database's", skew.Abs().Round(time.Second), direction)
}

const fixDatabase = "see the check database"

// openDatabase opens the party's database, or returns the result of a check that can't.
func openDatabase(ctx context.Context, cfg *party.Config) (*store.Store, *Check) {
	if path, missing := missingFile(cfg.Database.URL.Reveal(), "sqlite"); missing {
		c := failed(fixMigrate, "database %s does not exist", path)
		return nil, &c
	}
	db, err := cfg.OpenDatabase(ctx)
	if err != nil {
		c := failed(fixDatabase, "failed to open the database: %v", err)
		return nil, &c
	}

	return db, nil
}
