// The version of this package, as programs tell it to one another.

export const VERSION = "1.0.0";
