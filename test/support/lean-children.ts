// Keeps coverage to the test process: programs that tests start would run slower under it and count nothing.
delete process.env["NODE_V8_COVERAGE"];
