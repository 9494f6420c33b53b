package lifecycle

import "time"

var testTime = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
