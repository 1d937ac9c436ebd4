/* What the sketch uses of Arduino's core, so that a compiler alone reads it: names and types. */
#ifndef ARDUINO_H
#define ARDUINO_H

#include <stddef.h>
#include <stdint.h>

class Stream {
  public:
    void begin(unsigned long baud);
    void setTimeout(unsigned long milliseconds);
    int available();
    int peek();
    int read();
    float parseFloat();
    long parseInt();
    size_t print(const char *text);
    size_t print(float number, int digits = 2);
    size_t print(unsigned long number);
    size_t println(const char *text = "");
    size_t println(float number, int digits = 2);
    size_t println(unsigned long number);
    explicit operator bool();
};

extern Stream Serial;
unsigned long millis();
void delay(unsigned long milliseconds);

#endif
