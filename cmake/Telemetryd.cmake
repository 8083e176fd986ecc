# Targets of this house: one static library per folder, links only downwards, stopped at configure.
#
#   telemetryd_module(<name> LAYER <n> SOURCES ... [DEPENDS <module>...]
#                     [PUBLIC <target>...] [PRIVATE <target>...] [LIBC_ONLY])
#   telemetryd_program(<name> SOURCES ... DEPENDS <module>... [PRIVATE <target>...])
#
# A module's headers are reached as "<name>/<file>.h", and only by those that link it: each module has an
# include root of its own, so an include that is not declared does not compile.

add_library(telemetryd_options INTERFACE)
target_compile_features(telemetryd_options INTERFACE cxx_std_23)
target_compile_options(
  telemetryd_options
  INTERFACE -Wall
            -Wextra
            -Wpedantic
            -Wconversion
            -Wsign-conversion
            -Wshadow
            -Wimplicit-fallthrough
            $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor>
            $<$<COMPILE_LANGUAGE:CXX>:-Wold-style-cast>
            $<$<BOOL:${TELEMETRYD_WERROR}>:-Werror>
            $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>
            $<$<CXX_COMPILER_ID:Clang>:-Wno-c99-extensions>
            # std::stable_sort of libstdc++ 12 calls what it deprecates itself; g++ still says it of our code.
            $<$<CXX_COMPILER_ID:Clang>:-Wno-deprecated-declarations>
            $<$<CXX_COMPILER_ID:GNU>:-Wno-missing-field-initializers>
            $<$<CXX_COMPILER_ID:Clang>:-Wno-missing-field-initializers>)

define_property(TARGET PROPERTY TELEMETRYD_LAYER BRIEF_DOCS "Layer of a telemetryd module")

function(_telemetryd_link_modules target)
  get_target_property(own_layer ${target} TELEMETRYD_LAYER)
  foreach(dependency IN LISTS ARGN)
    if(NOT TARGET telemetryd_${dependency})
      message(FATAL_ERROR "${target} depends on '${dependency}', which is no module (is it added later? order is data flow)")
    endif()
    get_target_property(layer telemetryd_${dependency} TELEMETRYD_LAYER)
    if(NOT layer LESS own_layer)
      message(
        FATAL_ERROR
          "layer rule: ${target} (layer ${own_layer}) may not link ${dependency} (layer ${layer}); "
          "a module links only lower layers, see daemon/README.md")
    endif()
    target_link_libraries(${target} PUBLIC telemetryd_${dependency})
  endforeach()
endfunction()

function(telemetryd_module name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "LIBC_ONLY" "LAYER" "SOURCES;DEPENDS;PUBLIC;PRIVATE")
  if(arg_UNPARSED_ARGUMENTS OR NOT DEFINED arg_LAYER)
    message(FATAL_ERROR "telemetryd_module(${name}): LAYER missing or unknown words '${arg_UNPARSED_ARGUMENTS}'")
  endif()
  set(root ${PROJECT_BINARY_DIR}/include/${name})
  file(MAKE_DIRECTORY ${root})
  file(CREATE_LINK ${CMAKE_CURRENT_SOURCE_DIR} ${root}/${name} SYMBOLIC)
  add_library(telemetryd_${name} STATIC ${arg_SOURCES})
  add_library(telemetryd::${name} ALIAS telemetryd_${name})
  set_target_properties(telemetryd_${name} PROPERTIES TELEMETRYD_LAYER ${arg_LAYER} POSITION_INDEPENDENT_CODE ON)
  target_include_directories(telemetryd_${name} PUBLIC ${root})
  if(arg_LIBC_ONLY)
    target_compile_options(telemetryd_${name} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions -fno-rtti -fno-threadsafe-statics>)
  endif()
  target_link_libraries(telemetryd_${name} PUBLIC ${arg_PUBLIC} PRIVATE ${arg_PRIVATE} telemetryd_options)
  _telemetryd_link_modules(telemetryd_${name} ${arg_DEPENDS})
  set_property(GLOBAL APPEND PROPERTY TELEMETRYD_MODULES ${name})
endfunction()

function(telemetryd_program name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;DEPENDS;PRIVATE")
  add_executable(${name} ${arg_SOURCES})
  set_target_properties(${name} PROPERTIES TELEMETRYD_LAYER 99 RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
  target_link_libraries(${name} PRIVATE telemetryd_options ${arg_PRIVATE})
  _telemetryd_link_modules(${name} ${arg_DEPENDS})
endfunction()

# Links that went round DEPENDS: every telemetryd_* library a module links must sit in a lower layer.
function(telemetryd_check_layers)
  get_property(modules GLOBAL PROPERTY TELEMETRYD_MODULES)
  foreach(module IN LISTS modules)
    get_target_property(own_layer telemetryd_${module} TELEMETRYD_LAYER)
    get_target_property(links telemetryd_${module} LINK_LIBRARIES)
    foreach(link IN LISTS links)
      string(REGEX REPLACE "^telemetryd::" "telemetryd_" link "${link}")
      if(TARGET ${link})
        get_target_property(layer ${link} TELEMETRYD_LAYER)
        if(layer MATCHES "^[0-9]+$" AND NOT layer LESS own_layer)
          message(FATAL_ERROR "layer rule: telemetryd_${module} (layer ${own_layer}) links ${link} (layer ${layer})")
        endif()
      endif()
    endforeach()
  endforeach()
endfunction()

# telemetryd_install_config(FILE SUBFOLDER): below the configuration folder of the prefix, which for
# /usr is /etc. It is found while installing, because --prefix comes only then.
function(telemetryd_install_config file subfolder)
  get_filename_component(file ${file} ABSOLUTE)
  install(
    CODE "
    if(CMAKE_INSTALL_PREFIX STREQUAL [[${CMAKE_INSTALL_PREFIX}]])
      set(folder [[${CMAKE_INSTALL_FULL_SYSCONFDIR}]])
    elseif(IS_ABSOLUTE [[${CMAKE_INSTALL_SYSCONFDIR}]])
      set(folder [[${CMAKE_INSTALL_SYSCONFDIR}]])
    elseif(CMAKE_INSTALL_PREFIX MATCHES [[^/usr/?$]])
      set(folder [[/${CMAKE_INSTALL_SYSCONFDIR}]])
    else()
      set(folder \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_SYSCONFDIR}\")
    endif()
    file(INSTALL [[${file}]] DESTINATION \"\${folder}/${subfolder}\")")
endfunction()
